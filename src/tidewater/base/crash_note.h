// Crash notes: who was at work when the process crashed, told to the next start.
//
// A crash of one object's code (a stack overflow in a library, a division by zero) would repeat with each restart: the
// same rows come again. So a thread says what it works at, and a handler of SIGSEGV, SIGBUS, SIGFPE and SIGABRT appends
// that to a file before the process dies of the signal. Two notes of one object at one checkpoint, or three within ten
// minutes, and the next start leaves the object alone (Blamed). SIGKILL leaves no note.
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include "tidewater/base/ids.h"
#include "tidewater/base/result.h"

namespace tidewater::crash_note {

/// While one of these lives, this thread works for an object; `part` says at which part of it (an operator's number).
/// Costs a few stores.
class WorkingFor {
 public:
  explicit WorkingFor(ObjectId object, int32_t part = -1);
  ~WorkingFor();
  WorkingFor(const WorkingFor&) = delete;
  WorkingFor& operator=(const WorkingFor&) = delete;

 private:
  const uint64_t before_;
};

/// Gives this thread a stack for the handler, without which an overflow of its own leaves no note. One per thread that
/// works for objects, until it ends.
class HandlerStack {
 public:
  HandlerStack();
  ~HandlerStack();
  HandlerStack(const HandlerStack&) = delete;
  HandlerStack& operator=(const HandlerStack&) = delete;

 private:
  void* memory_ = nullptr;
};

struct Note {
  CheckpointId checkpoint = 0;  ///< the newest durable one when the process crashed
  int64_t wall_time_us = 0;
  ObjectId object = 0;
  int32_t part = -1;
  int32_t signal = 0;
};

/// Opens the file and installs the handler. Call again for another file; the notes of the file stay.
Status Install(const std::string& path);
/// Takes the handler away and closes the file; with `forget`, whose process ended well, the file goes.
void Uninstall(bool forget);
/// What the next note says.
void SetCheckpoint(CheckpointId checkpoint);

/// All notes of a file, oldest first; none where there is no file. Whatever else lies in it is passed over.
std::vector<Note> Read(const std::string& path);
/// Replaces the notes of a file.
Status Write(const std::string& path, const std::vector<Note>& notes);

/// The newest note of each object that is not to be touched by a start from `checkpoint` at time `now_us`.
std::vector<Note> Blamed(const std::vector<Note>& notes, CheckpointId checkpoint, int64_t now_us);

}  // namespace tidewater::crash_note

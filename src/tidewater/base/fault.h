// Named fault points: places where a crash would hurt most. A test that sets
//   TIDEWATER_FAULT=checkpoint.after_write:3
// has the process killed (SIGKILL, no destructors) the third time it passes that point.
#pragma once
namespace tidewater {
void FaultPoint(const char* name);
}

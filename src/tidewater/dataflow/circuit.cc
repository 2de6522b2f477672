#include "tidewater/dataflow/circuit.h"
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include "duckdb/main/connection.hpp"
#include "tidewater/base/check.h"
#include "tidewater/base/clock.h"
#include "tidewater/base/crash_note.h"
#include "tidewater/dataflow/operator.h"

namespace tidewater::dataflow {
using duckdb::idx_t;
using duckdb::sel_t;
using duckdb::SelectionVector;
using duckdb::UnifiedVectorFormat;
using duckdb::Vector;
using state::Arrangement;
using state::Block;
using state::BlockView;
using state::RowId;
using state::StepNumber;

namespace {

/// How much state one checkpoint writes anew, at least one part.
constexpr uint64_t kRewrittenBytesMax = 32 << 20;
/// Rows that a pass may put between two operators, where that can be foreseen.
constexpr uint64_t kRowsBetweenMax = 4 << 20;

/// Runs a function on all workers at once. Worker 0 is the calling thread.
class WorkerPool {
 public:
  explicit WorkerPool(uint32_t workers) {
    for (uint32_t w = 1; w < workers; w++) threads_.emplace_back([this, w] { Loop(w); });
  }
  ~WorkerPool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& t : threads_) t.join();
  }
  void Run(const std::function<void(uint32_t)>& f) {
    if (threads_.empty()) return f(0);
    {
      std::lock_guard lock(mutex_);
      job_ = &f;
      pending_ = uint32_t(threads_.size());
      error_ = nullptr;
      generation_++;
    }
    wake_.notify_all();
    std::exception_ptr own;
    try {
      f(0);
    } catch (...) {
      own = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return pending_ == 0; });
    if (own) std::rethrow_exception(own);
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void Loop(uint32_t w) {
    crash_note::HandlerStack handler_stack;
    uint64_t seen = 0;
    for (;;) {
      const std::function<void(uint32_t)>* job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
        if (stop_) return;
        seen = generation_;
        job = job_;
      }
      std::exception_ptr error;
      try {
        (*job)(w);
      } catch (...) {
        error = std::current_exception();
      }
      std::lock_guard lock(mutex_);
      if (error) error_ = error;
      if (--pending_ == 0) done_.notify_one();
    }
  }
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(uint32_t)>* job_ = nullptr;
  uint64_t generation_ = 0;
  uint32_t pending_ = 0;
  std::exception_ptr error_;
  bool stop_ = false;
};

/// Appends a deep copy of `from` to `to`, filling chunks up.
void AppendCopy(const DeltaBatch& from, DeltaBatch& to) {
  for (auto& c : from.chunks) {
    idx_t at = 0;
    while (at < c.size()) {
      if (to.chunks.empty() || to.chunks.back().size() == STANDARD_VECTOR_SIZE) {
        DeltaChunk fresh;
        fresh.rows = std::make_unique<DataChunk>();
        fresh.rows->Initialize(duckdb::Allocator::DefaultAllocator(), to.types);
        to.chunks.push_back(std::move(fresh));
      }
      auto& last = to.chunks.back();
      idx_t before = last.size();
      idx_t n = std::min<idx_t>(STANDARD_VECTOR_SIZE - before, c.size() - at);
      SelectionVector sel(n);
      for (idx_t i = 0; i < n; i++) sel.set_index(i, at + i);
      last.rows->Append(*c.rows, false, &sel, n);
      if (!c.weights.empty() && last.weights.empty()) last.weights.assign(before, 1);
      if (!c.weights.empty() || !last.weights.empty())
        for (idx_t i = 0; i < n; i++) last.weights.push_back(c.weight(at + i));
      at += n;
    }
  }
}

/// Reads `columns` of a relation's delta.
class ScanOp : public Operator {
 public:
  ScanOp(ObjectId view, const PlanNode& n) : Operator(view, n.id, "scan", n.types), columns_(n.columns) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext&) override {
    for (auto& c : inputs[0]->chunks) out.chunks.push_back(ShareChunk(c, columns_, types));
  }

 private:
  std::vector<uint32_t> columns_;
};

/// Keeps the rows of a view.
class StoreOp : public Operator {
 public:
  StoreOp(ObjectId view, const Types& types, std::vector<uint32_t> key, bool indexed)
      : Operator(view, -1, "store", types),
        arrangement(std::make_shared<Arrangement>(types, std::move(key), indexed)) {}
  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch&, StepContext& context) override {
    arrangement->Apply(*inputs[0], context.step);
  }
  std::vector<std::string> StateNames() const override { return {"rows"}; }
  uint32_t StateParts(const std::string&) const override { return arrangement->store().Parts(); }
  bool StateChanged(const std::string&, uint32_t part) const override { return arrangement->store().Changed(part); }
  uint64_t LiveBytes(const std::string&, uint32_t part) const override { return arrangement->store().LiveBytes(part); }
  uint64_t UnloggedBytes() const override { return arrangement->store().UnloggedBytes(); }
  bool Checkpoint(const std::string&, uint32_t part, bool base, state::ByteWriter& out) override {
    return arrangement->store().Encode(part, base, out, kRecordBytes);
  }
  Status Restore(const std::string&, uint32_t part, bool base, state::ByteReader& in) override {
    return arrangement->store().Restore(part, in, base);
  }
  void Restored() override { arrangement->Restored(); }
  void Absorb(Operator& other, uint32_t worker, uint32_t workers) override {
    AbsorbArrangement(*static_cast<StoreOp&>(other).arrangement, *arrangement, worker, workers);
  }
  void Publish(StepNumber step) override {
    // First: should cleaning fail, what it did is told from the epoch's own rows.
    arrangement->Publish();
    arrangement->Clean(step);
    arrangement->Publish();
  }
  uint64_t StateRows() const override { return arrangement->store().live_rows(); }
  uint64_t StateBytes() const override { return arrangement->Bytes(); }

  /// Shared with snapshots, which may outlive the view.
  std::shared_ptr<Arrangement> arrangement;
};

/// Cuts a worker's delta by the shard of some expressions. Each worker's output for the others lies in `parts`.
struct Exchange {
  std::vector<std::unique_ptr<Projector>> keys;  ///< per worker; null: everything goes to worker 0
  std::vector<std::vector<DeltaBatch>> parts;    ///< [from][to]
};

struct Relation;

struct Node {
  ObjectId view = 0;
  Relation* owner = nullptr;                   ///< the view; none for nodes that stand for a relation's delta
  std::vector<std::unique_ptr<Operator>> ops;  ///< per worker; empty for exchanges and relation outputs
  std::vector<uint32_t> inputs;
  std::vector<DeltaBatch> outputs;  ///< per worker
  uint32_t phase = 0;
  std::unique_ptr<Exchange> exchange;  ///< this node cuts its input and gives the parts of its own worker (phase + 1)
  ObjectId relation = 0;               ///< for the node that stands for a relation's delta
};

/// The published blocks of a stored relation, per worker and block number, and the places of those that exist.
struct ReaderViews {
  std::vector<std::vector<BlockView>> blocks;
  std::vector<std::pair<uint32_t, uint32_t>> parts;
  std::vector<uint64_t> cleanings;
};

struct Pending {
  std::optional<ChangeChunk> change;
  DeltaBatch delta;
};

struct Relation {
  ObjectId id = 0;
  enum Kind { kTable, kStream, kView } kind = kTable;
  Types types;
  std::vector<uint32_t> key;
  bool has_key = false;
  bool stored = false;
  uint32_t output_node = 0;                          ///< whose outputs are this relation's delta
  std::vector<StoreOp*> stores;                      ///< per worker, when stored
  std::vector<std::unique_ptr<StoreOp>> own_stores;  ///< of tables and frozen views; else the nodes have them
  /// An operator threw: the view's nodes are not run any more. Set by any worker, under the circuit's fault mutex.
  std::atomic<bool> failed{false};
  bool frozen = false;                           ///< nothing but rows is left of it
  bool rewrite = false;                          ///< the next checkpoint writes all of its state, changed or not
  std::vector<std::unique_ptr<PlanNode>> plans;  ///< of a view: per worker
  /// What they have in common.
  const PlanNode* plan() const { return plans.empty() ? nullptr : plans[0].get(); }
  std::vector<uint32_t> nodes;  ///< of a view, in topological order
  std::vector<Pending> pending;
  bool keep = false;
  DeltaBatch kept;
  uint32_t next_worker = 0;
  // Reader side, under the circuit's pin mutex:
  bool views_stale = true;
  std::shared_ptr<const ReaderViews> views;
};

class SnapshotImpl;
class BackfillImpl;

class CircuitImpl : public Circuit {
 public:
  CircuitImpl(duckdb::DatabaseInstance& db, const CircuitOptions& options)
      : workers_(uint32_t(std::max(1, options.workers))), pool_(workers_) {
    TW_CHECK(workers_ <= state::kShards, "more workers than shards: {}", workers_);
    contexts_.resize(workers_);
    for (uint32_t w = 0; w < workers_; w++) {
      connections_.push_back(std::make_unique<duckdb::Connection>(db));
      connections_[w]->BeginTransaction();
      contexts_[w].client = connections_[w]->context.get();
      contexts_[w].worker = w;
      contexts_[w].workers = workers_;
      if (options.pass_bytes_max) contexts_[w].output_bytes_max = options.pass_bytes_max / workers_;
    }
  }

  void AddTable(ObjectId id, const Schema& schema) override {
    auto r = std::make_unique<Relation>();
    r->id = id;
    r->kind = Relation::kTable;
    r->types = schema.GetTypes();
    r->key = schema.primary_key;
    r->has_key = !r->key.empty();
    r->stored = true;
    auto key = r->key;
    if (key.empty())
      for (uint32_t c = 0; c < r->types.size(); c++) key.push_back(c);
    for (uint32_t w = 0; w < workers_; w++) {
      r->own_stores.push_back(std::make_unique<StoreOp>(id, r->types, key, true));
      r->stores.push_back(r->own_stores.back().get());
    }
    r->output_node = AddRelationNode(id, r->types);
    Add(std::move(r));
  }

  void AddStream(ObjectId id, const Types& types) override {
    auto r = std::make_unique<Relation>();
    r->id = id;
    r->kind = Relation::kStream;
    r->types = types;
    r->output_node = AddRelationNode(id, types);
    Add(std::move(r));
  }

  Status AddView(ObjectId id, const PlanMaker& make, bool stored) override {
    std::vector<std::unique_ptr<PlanNode>> plans;
    std::vector<const PlanNode*> roots;
    for (uint32_t w = 0; w < workers_; w++) {
      TW_ASSIGN(auto plan, make(*contexts_[w].client));
      roots.push_back(plan.get());
      plans.push_back(std::move(plan));
    }
    auto r = std::make_unique<Relation>();
    r->id = id;
    r->kind = Relation::kView;
    r->types = roots[0]->types;
    r->stored = stored;
    r->plans = std::move(plans);
    building_ = r.get();
    auto first_node = nodes_.size();
    try {
      BuildView(*r, roots, stored);
    } catch (...) {
      building_ = nullptr;
      nodes_.resize(first_node);
      owned_expressions_.erase(id);
      throw;
    }
    building_ = nullptr;
    Add(std::move(r));
    return {};
  }

  void BuildView(Relation& r, const std::vector<const PlanNode*>& roots, bool stored) {
    r.output_node = Build(r.id, roots);
    if (stored) {
      auto key = r.plan()->unique_keys.empty() ? std::vector<uint32_t>{} : r.plan()->unique_keys[0];
      r.has_key = !r.plan()->unique_keys.empty() && !key.empty();
      r.key = r.has_key ? key : std::vector<uint32_t>{};
      bool indexed = r.has_key || !r.plan()->append_only;
      if (!r.has_key)
        for (uint32_t c = 0; c < r.types.size(); c++) key.push_back(c);
      uint32_t input = r.output_node;
      if (workers_ > 1 && indexed) {
        input = AddExchange(r.id, input, ColumnReferences(r.id, r.types, key));
      }
      auto& n = AddNode(r.id, r.types, {input});
      for (uint32_t w = 0; w < workers_; w++) {
        auto op = std::make_unique<StoreOp>(r.id, r.types, key, indexed);
        r.stores.push_back(op.get());
        n.ops.push_back(std::move(op));
      }
    }
  }

  void AddFrozenView(ObjectId id, const Types& types) override {
    auto r = std::make_unique<Relation>();
    r->id = id;
    r->kind = Relation::kView;
    r->types = types;
    r->stored = r->frozen = true;
    for (uint32_t w = 0; w < workers_; w++) {
      r->own_stores.push_back(std::make_unique<StoreOp>(id, types, std::vector<uint32_t>{}, false));
      r->stores.push_back(r->own_stores.back().get());
    }
    r->output_node = AddRelationNode(id, types);
    Add(std::move(r));
  }

  void Replace(ObjectId id, ObjectId filled) override {
    bool keep = At(id).keep;
    auto old_place = std::find(order_.begin(), order_.end(), id) - order_.begin();
    Drop(id);
    auto prefix = fmt::format("circuit/{}/", filled);
    for (auto it = streams_.begin(); it != streams_.end();) {
      if (!it->first.starts_with(prefix)) {
        ++it;
        continue;
      }
      dropped_streams_.push_back(it->first);
      it = streams_.erase(it);
    }
    std::lock_guard lock(pin_mutex_);
    auto taken = relations_.extract(filled);
    Relation& r = *taken.mapped();
    r.id = id;
    r.rewrite = true;
    r.views_stale = true;
    r.keep = keep;
    r.kept.types = r.types;
    r.kept.chunks.clear();
    for (auto i : r.nodes) {
      nodes_[i]->view = id;
      for (auto& op : nodes_[i]->ops) op->view = id;
    }
    taken.key() = id;
    relations_.insert(std::move(taken));
    std::erase(order_, filled);
    order_.insert(order_.begin() + old_place, id);
    if (auto expressions = owned_expressions_.extract(filled); !expressions.empty()) {
      expressions.key() = id;
      owned_expressions_.insert(std::move(expressions));
    }
  }

  void Freeze(ObjectId view, const std::string& reason) override {
    Fail(At(view), -1, false, reason);
    FreezeFailed();
  }

  std::vector<Fault> TakeFaults() override {
    std::lock_guard lock(fault_mutex_);
    std::vector<Fault> taken;
    std::erase_if(faults_, [&](const Fault& f) {
      if (!At(f.view).frozen) return false;  // a backfill's: see Share
      taken.push_back(f);
      return true;
    });
    return taken;
  }

  std::unique_ptr<Backfill> BeginBackfill(ObjectId view,
                                          std::function<std::optional<DeltaBatch>(ObjectId)> streams) override;

  /// Runs the view's operators over changes of one relation.
  void FeedView(Relation& view, ObjectId relation, std::vector<DeltaBatch>& batches) {
    overrides_[relation] = &batches;
    RunNodes(view.nodes);
    overrides_.clear();
    Capture(view);
    for (auto n : view.nodes) ClearOutputs(*nodes_[n]);
  }

  void Drop(ObjectId id) override {
    for (auto& [stream, bytes] : streams_)
      if (stream.starts_with(fmt::format("circuit/{}/", id))) dropped_streams_.push_back(stream);
    for (auto& s : dropped_streams_) streams_.erase(s);
    aside_.erase(id);
    // Out of Pin's sight before its stores go.
    std::unique_ptr<Relation> dropped;
    {
      std::lock_guard lock(pin_mutex_);
      order_.erase(std::find(order_.begin(), order_.end(), id));
      dropped = std::move(relations_.extract(id).mapped());
    }
    for (auto n : dropped->nodes) nodes_[n].reset();
    nodes_[dropped->output_node].reset();
    owned_expressions_.erase(id);
    std::lock_guard lock(fault_mutex_);
    std::erase_if(faults_, [&](const Fault& f) { return f.view == id; });
  }

  std::vector<uint32_t> NeededColumns(ObjectId relation) const override {
    const Relation& r = At(relation);
    std::vector<bool> needed(r.types.size(), r.stored);
    for (auto& [id, view] : relations_)
      if (view->plan()) MarkColumns(*view->plan(), relation, needed);
    std::vector<uint32_t> out;
    for (uint32_t c = 0; c < needed.size(); c++)
      if (needed[c]) out.push_back(c);
    return out;
  }

  bool Contains(ObjectId relation) const override { return relations_.contains(relation); }
  std::vector<uint32_t> StoreKey(ObjectId relation) const override { return At(relation).key; }

  void Push(ChangeChunk change) override {
    Relation& r = At(change.table);
    if (r.kind == Relation::kStream) {
      DeltaBatch delta;
      delta.types = r.types;
      DeltaChunk c;
      c.rows = std::move(change.rows);
      if (c.rows->size() > 0) delta.chunks.push_back(std::move(c));
      Pending p;
      p.delta = std::move(delta);
      r.pending.push_back(std::move(p));
      return;
    }
    Pending p;
    p.change = std::move(change);
    r.pending.push_back(std::move(p));
  }

  void Push(ObjectId relation, DeltaBatch delta) override {
    Pending p;
    p.delta = std::move(delta);
    At(relation).pending.push_back(std::move(p));
  }

  void Step(Epoch) override {
    for (auto id : order_) At(id).kept.chunks.clear();
    NextStep();
    // Tables resolve one after the other on this thread: a moved key may go from one part to another.
    for (auto id : order_) {
      Relation& r = At(id);
      if (r.kind == Relation::kView) continue;
      crash_note::WorkingFor work(id);
      ClearOutputs(*nodes_[r.output_node]);
      for (auto& p : r.pending) {
        if (p.change)
          Resolve(r, *p.change);
        else
          Feed(r, std::move(p.delta));
      }
      r.pending.clear();
    }
    auto held = HoldBack();
    while (true) {
      RunAll();
      for (auto id : order_) Capture(At(id));
      for (auto& n : nodes_)
        if (n && n->relation == 0) ClearOutputs(*n);
      if (held.empty()) break;
      for (auto id : order_) ClearOutputs(*nodes_[At(id).output_node]);
      NextStep();
      std::erase_if(held, [&](Held& h) { return !GivePart(h); });
    }
    FreezeFailed();
  }

  const DeltaBatch& Output(ObjectId relation) override { return At(relation).kept; }
  void KeepOutput(ObjectId relation, bool keep) override {
    Relation& r = At(relation);
    r.keep = keep;
    r.kept.types = r.types;
    r.kept.chunks.clear();
  }

  std::vector<std::optional<duckdb::vector<duckdb::Value>>> Find(ObjectId table, DataChunk& keys) override {
    Relation& r = At(table);
    TW_CHECK(r.has_key, "table {} has no key", table);
    std::vector<std::optional<duckdb::vector<duckdb::Value>>> out;
    std::vector<UnifiedVectorFormat> formats(r.key.size());
    std::vector<uint32_t> all;
    for (uint32_t k = 0; k < r.key.size(); k++) {
      keys.data[k].ToUnifiedFormat(keys.size(), formats[k]);
      all.push_back(k);
    }
    std::vector<uint64_t> hashes;
    state::HashColumns(keys, all, hashes);
    for (uint32_t i = 0; i < keys.size(); i++) {
      auto& a = *r.stores[state::WorkerOf(hashes[i], workers_)]->arrangement;
      RowId id = a.Find(formats, i, hashes[i]);
      if (id == state::kNoRow) {
        out.push_back(std::nullopt);
      } else {
        out.push_back(RowValues(a.store(), id));
      }
    }
    return out;
  }

  void Publish(Epoch epoch) override {
    {
      std::lock_guard lock(pin_mutex_);
      for (auto id : order_) {
        Relation& r = At(id);
        crash_note::WorkingFor work(id);
        for (auto& s : r.own_stores) s->Publish(step_);
      }
      for (auto& n : nodes_)
        if (n)
          for (auto& op : n->ops)
            if (!n->owner->failed) Guard(*n->owner, op->node, [&] { op->Publish(step_); });
      for (auto id : order_) At(id).views_stale = true;
      published_step_ = step_;
      published_ = epoch;
    }
    FreezeFailed();
  }
  Epoch published() const override { return published_; }

  std::shared_ptr<Snapshot> Pin() override;

  void Checkpoint(state::SegmentBuilder& segment) override {
    for (auto& s : dropped_streams_) segment.Drop(s);
    dropped_streams_.clear();
    uint64_t rewritten = 0;
    auto write = [&](ObjectId view, const std::string& node, Operator& op, uint32_t w, const std::string& name,
                     uint32_t part) {
      auto stream = fmt::format("circuit/{}/{}/{}.{}/{}-{}", view, node, name, part, w, workers_);
      auto it = streams_.find(stream);
      bool base = it == streams_.end();
      // A new base when recovery would read more than twice what is alive; not too much of that at a time.
      if (!base && rewritten < kRewrittenBytesMax) {
        auto live = op.LiveBytes(name, part);
        base = it->second > 2 * live + (1 << 20);
        if (base) rewritten += live;
      }
      auto& logged = streams_[stream];
      if (base) logged = 0;
      auto kind = base ? state::RecordKind::kBase : state::RecordKind::kDelta;
      for (bool more = true; more; kind = state::RecordKind::kDelta) {
        state::ByteWriter out;
        more = op.Checkpoint(name, part, kind == state::RecordKind::kBase, out);
        logged += out.bytes.size();
        segment.Add(stream, kind, std::move(out.bytes));
      }
    };
    ForEachOp([&](ObjectId view, const std::string& node, Operator& op, uint32_t w) {
      bool all = At(view).rewrite;
      for (auto& name : op.StateNames())
        for (uint32_t part = 0; part < op.StateParts(name); part++)
          if (all || op.StateChanged(name, part)) write(view, node, op, w, name, part);
    });
    for (auto id : order_) At(id).rewrite = false;
  }

  uint64_t UnloggedBytes() const override {
    uint64_t n = 0;
    for (auto& [id, r] : relations_)
      for (auto& s : r->own_stores) n += s->UnloggedBytes();
    for (auto& node : nodes_)
      if (node)
        for (auto& op : node->ops) n += op->UnloggedBytes();
    return n;
  }

  Status Restore(state::Record&& record) override {
    auto corrupt = [&] {
      return std::unexpected(
          EnvError(ErrorKind::kCorrupt, "the state log has a record of unknown name \"{}\"", record.stream));
    };
    ObjectId view;
    char node[32], name[64];
    uint32_t part, w, of;
    if (std::sscanf(record.stream.c_str(), "circuit/%u/%31[^/]/%63[^/.].%u/%u-%u", &view, node, name, &part, &w, &of) !=
            6 ||
        w >= of)
      return corrupt();
    if (!relations_.contains(view)) {
      // Of a view whose backfill a crash ended: it never was in the catalog.
      if (dropped_streams_.empty() || dropped_streams_.back() != record.stream)
        dropped_streams_.push_back(record.stream);
      return {};
    }
    Relation& r = At(view);
    if (r.frozen && std::strcmp(node, "store") != 0) {
      // Of an operator that the view had before it stopped.
      if (dropped_streams_.empty() || dropped_streams_.back() != record.stream)
        dropped_streams_.push_back(record.stream);
      return {};
    }
    auto& logged = streams_[record.stream];
    if (record.kind == state::RecordKind::kBase) logged = 0;
    logged += record.payload.size();
    Operator* op;
    crash_note::WorkingFor work(view);
    if (of == workers_) {
      op = FindOp(view, node, w);
    } else {
      auto& foreign = foreign_[{view, node}];
      if (foreign.size() < of) foreign.resize(of);
      if (!foreign[w]) foreign[w] = CloneOp(view, node);
      op = foreign[w].get();
      foreign_streams_.insert(record.stream);
    }
    if (!op) return corrupt();
    state::ByteReader in(record.payload);
    TW_TRY(op->Restore(name, part, record.kind == state::RecordKind::kBase, in));
    if (!in.ok || !in.done())
      return std::unexpected(EnvError(ErrorKind::kCorrupt, "state record \"{}\" of checkpoint {} is damaged",
                                      record.stream, record.checkpoint));
    return {};
  }

  Status Restored(Epoch epoch) override {
    for (auto& [where, ops] : foreign_) {
      for (auto& op : ops) {
        if (!op) continue;
        Guard(At(where.first), op->node, [&] {
          op->Restored();
          for (uint32_t w = 0; w < workers_; w++) FindOp(where.first, where.second, w)->Absorb(*op, w, workers_);
        });
      }
    }
    for (auto& s : foreign_streams_) {
      dropped_streams_.push_back(s);
      streams_.erase(s);
    }
    ForEachOp([&](ObjectId view, const std::string& node, Operator& op, uint32_t) {
      if (!foreign_.contains({view, node})) Guard(At(view), op.node, [&] { op.Restored(); });
    });
    foreign_.clear();
    foreign_streams_.clear();
    step_ = 1;
    for (auto& c : contexts_) c.step = step_;
    Publish(epoch);
    return {};
  }

  std::vector<EvaluationError> TakeErrors() override {
    std::vector<EvaluationError> out;
    for (auto& c : contexts_) {
      out.insert(out.end(), c.errors.begin(), c.errors.end());
      c.errors.clear();
    }
    return out;
  }

  std::vector<OperatorStats> Stats() const override {
    std::vector<OperatorStats> out;
    for (auto& n : nodes_) {
      if (!n || n->ops.empty()) continue;
      OperatorStats s;
      s.view = n->view;
      s.node = n->ops[0]->node;
      s.name = n->ops[0]->name;
      for (auto& op : n->ops) {
        s.rows_in += op->rows_in;
        s.rows_out += op->rows_out;
        s.cpu_us += op->cpu_ns / 1000;
        s.state_rows += op->StateRows();
        s.state_bytes += op->StateBytes();
      }
      out.push_back(std::move(s));
    }
    return out;
  }

  uint64_t MemoryBytes() const override {
    uint64_t n = 0;
    for (auto& node : nodes_)
      if (node)
        for (auto& op : node->ops) n += op->StateBytes();
    for (auto& [id, r] : relations_)
      for (auto& s : r->own_stores) n += s->StateBytes();
    return n;
  }

 private:
  friend class SnapshotImpl;
  friend class BackfillImpl;

  Relation& At(ObjectId id) const {
    auto it = relations_.find(id);
    TW_CHECK(it != relations_.end(), "unknown relation {}", id);
    return *it->second;
  }
  void Add(std::unique_ptr<Relation> r) {
    std::lock_guard lock(pin_mutex_);
    order_.push_back(r->id);
    relations_[r->id] = std::move(r);
  }

  Node& AddNode(ObjectId view, const Types& types, std::vector<uint32_t> inputs) {
    auto n = std::make_unique<Node>();
    n->view = view;
    n->inputs = std::move(inputs);
    n->outputs.resize(workers_);
    for (auto& o : n->outputs) o.types = types;
    for (auto i : n->inputs) n->phase = std::max(n->phase, nodes_[i]->phase + (nodes_[i]->exchange ? 1 : 0));
    n->owner = building_;
    if (building_) building_->nodes.push_back(uint32_t(nodes_.size()));
    nodes_.push_back(std::move(n));
    return *nodes_.back();
  }
  uint32_t AddRelationNode(ObjectId id, const Types& types) {
    AddNode(id, types, {}).relation = id;
    return uint32_t(nodes_.size() - 1);
  }
  using Expressions = std::vector<const duckdb::Expression*>;

  /// `expressions`, per worker, must outlive the node; none: everything goes to worker 0.
  uint32_t AddExchange(ObjectId view, uint32_t input, const std::vector<Expressions>& expressions) {
    auto types = nodes_[input]->outputs[0].types;
    auto& n = AddNode(view, types, {input});
    n.exchange = std::make_unique<Exchange>();
    n.exchange->parts.resize(workers_);
    for (auto& p : n.exchange->parts) p.resize(workers_);
    for (uint32_t w = 0; w < workers_; w++)
      n.exchange->keys.push_back(
          expressions[w].empty() ? nullptr : std::make_unique<Projector>(*contexts_[w].client, expressions[w]));
    return uint32_t(nodes_.size() - 1);
  }

  /// References to some columns, for all workers.
  std::vector<Expressions> ColumnReferences(ObjectId view, const Types& types, const std::vector<uint32_t>& columns) {
    Expressions all;
    for (auto c : columns) {
      owned_expressions_[view].push_back(duckdb::make_uniq<duckdb::BoundReferenceExpression>(types[c], c));
      all.push_back(owned_expressions_[view].back().get());
    }
    return std::vector<Expressions>(workers_, all);
  }

  std::unique_ptr<Operator> MakeOp(ObjectId view, const PlanNode& n, uint32_t w) {
    auto& client = *contexts_[w].client;
    switch (n.kind) {
      case NodeKind::kScan:
        return std::make_unique<ScanOp>(view, n);
      case NodeKind::kFilter:
        return MakeFilter(view, n, client);
      case NodeKind::kProject:
        return MakeProject(view, n, client);
      case NodeKind::kJoin:
        return MakeJoin(view, n, client);
      case NodeKind::kAggregate:
      case NodeKind::kDistinct:
        return MakeAggregate(view, n, client, w);
      case NodeKind::kUnionAll:
        return MakeUnionAll(view, n);
      case NodeKind::kValues:
        return MakeValues(view, n, w);
    }
    return nullptr;
  }

  /// Builds the nodes of a plan, which each worker has its own of, bottom-up and returns the root's.
  uint32_t Build(ObjectId view, const std::vector<const PlanNode*>& plans) {
    auto& n = *plans[0];
    std::vector<uint32_t> inputs;
    if (n.kind == NodeKind::kScan) inputs.push_back(At(n.relation).output_node);
    for (size_t i = 0; i < n.inputs.size(); i++) {
      std::vector<const PlanNode*> below;
      for (auto* plan : plans) below.push_back(plan->inputs[i].get());
      inputs.push_back(Build(view, below));
    }
    auto exchange = [&](size_t input, auto&& keys_of) {
      std::vector<Expressions> keys(workers_);
      for (uint32_t w = 0; w < workers_; w++)
        for (auto& e : keys_of(*plans[w])) keys[w].push_back(e.get());
      inputs[input] = AddExchange(view, inputs[input], keys);
    };
    if (workers_ > 1) {
      if (n.kind == NodeKind::kJoin) {
        exchange(0, [](const PlanNode& p) -> auto& { return p.left_keys; });
        exchange(1, [](const PlanNode& p) -> auto& { return p.right_keys; });
      } else if (n.kind == NodeKind::kAggregate) {
        exchange(0, [](const PlanNode& p) -> auto& { return p.groups; });
      } else if (n.kind == NodeKind::kDistinct) {
        std::vector<uint32_t> all;
        for (uint32_t c = 0; c < n.types.size(); c++) all.push_back(c);
        inputs[0] = AddExchange(view, inputs[0], ColumnReferences(view, n.types, all));
      }
    }
    auto& node = AddNode(view, n.types, inputs);
    auto index = uint32_t(nodes_.size() - 1);
    for (uint32_t w = 0; w < workers_; w++) node.ops.push_back(MakeOp(view, *plans[w], w));
    return index;
  }

  static void CollectScans(const PlanNode& n, std::set<ObjectId>& out) {
    if (n.kind == NodeKind::kScan) out.insert(n.relation);
    for (auto& c : n.inputs) CollectScans(*c, out);
  }
  static void MarkColumns(const PlanNode& n, ObjectId relation, std::vector<bool>& needed) {
    if (n.kind == NodeKind::kScan && n.relation == relation)
      for (auto c : n.columns) needed[c] = true;
    for (auto& c : n.inputs) MarkColumns(*c, relation, needed);
  }

  void ClearOutputs(Node& n) {
    for (auto& o : n.outputs) o.chunks.clear();
    if (n.exchange)
      for (auto& row : n.exchange->parts)
        for (auto& p : row) p.chunks.clear();
  }

  /// Output of node `i` for worker `w`; for exchanges, what all workers sent to `w` (its own phase is over then).
  const DeltaBatch* InputOf(uint32_t i, uint32_t w) {
    Node& n = *nodes_[i];
    if (n.relation != 0 && !overrides_.empty()) {
      auto it = overrides_.find(n.relation);
      return it == overrides_.end() ? &empty_ : &(*it->second)[w];
    }
    // A view's backfill reads other views through their relation, never through their nodes' outputs.
    if (!overrides_.empty() && n.view != backfilling_view_) {
      for (auto& [relation, batches] : overrides_)
        if (At(relation).output_node == i) return &(*batches)[w];
      return &empty_;
    }
    if (n.exchange && n.outputs[w].chunks.empty())
      for (auto& from : n.exchange->parts)
        for (auto& c : from[w].chunks) n.outputs[w].chunks.push_back(std::move(c));
    if (n.exchange)
      for (auto& from : n.exchange->parts) from[w].chunks.clear();
    return &n.outputs[w];
  }

  void RunNode(Node& n, uint32_t w) {
    if ((n.ops.empty() && !n.exchange) || n.owner->failed.load(std::memory_order_relaxed)) return;
    Guard(*n.owner, n.exchange ? -1 : n.ops[w]->node, [&] { RunNodeOf(n, w); });
  }

  /// Runs work of a view. What it throws is the end of the view and of all that stands on it, and of nothing else.
  template <class F>
  void Guard(Relation& view, int node, F&& work) {
    crash_note::WorkingFor place(view.id, node);
    ChecksThrow checks;
    try {
      work();
    } catch (const std::exception& e) {
      if (view.kind != Relation::kView) throw;
      duckdb::ErrorData error(e);
      Fail(view, node, error.Type() == duckdb::ExceptionType::OUT_OF_MEMORY, error.RawMessage());
    }
  }

  void Fail(Relation& view, int node, bool memory, const std::string& message) {
    std::lock_guard lock(fault_mutex_);
    std::vector<Relation*> todo{&view};
    while (!todo.empty()) {
      auto* r = todo.back();
      todo.pop_back();
      if (r->failed || r->frozen) continue;
      r->failed = true;
      faults_.push_back({r->id, r == &view ? node : -1, view.id, memory, message});
      for (auto& [id, other] : relations_) {
        if (!other->plan()) continue;
        std::set<ObjectId> scans;
        CollectScans(*other->plan(), scans);
        if (scans.contains(r->id)) todo.push_back(other.get());
      }
    }
  }

  /// What failed becomes rows alone, those of the published epoch. Backfills are left to who fills them.
  void FreezeFailed() {
    for (auto id : std::vector<ObjectId>(order_)) {
      Relation& r = At(id);
      if (!r.failed || r.frozen || aside_.contains(id)) continue;
      std::lock_guard lock(pin_mutex_);
      for (auto* store : r.stores) store->arrangement->RollBack(published_step_);
      for (auto i : r.nodes)
        for (auto& op : nodes_[i]->ops)
          if (auto* store = dynamic_cast<StoreOp*>(op.get()); store && store->node < 0) {
            op.release();
            r.own_stores.emplace_back(store);
          }
      for (auto i : r.nodes)
        if (i != r.output_node) nodes_[i].reset();
      auto& output = *nodes_[r.output_node];
      output.ops.clear();
      output.inputs.clear();
      output.exchange.reset();
      output.owner = nullptr;
      output.relation = id;
      ClearOutputs(output);
      r.nodes.clear();
      r.plans.clear();
      r.kept.chunks.clear();
      owned_expressions_.erase(id);
      // Its rows are written anew, nothing else is kept.
      auto prefix = fmt::format("circuit/{}/", id);
      for (auto it = streams_.lower_bound(prefix); it != streams_.end() && it->first.starts_with(prefix);) {
        dropped_streams_.push_back(it->first);
        it = streams_.erase(it);
      }
      for (auto& c : contexts_) std::erase_if(c.errors, [&](auto& e) { return e.view == id; });
      r.rewrite = r.frozen = r.views_stale = true;
    }
  }

  void NextStep() {
    step_++;
    for (auto& c : contexts_) {
      c.step = step_;
      c.output_bytes = 0;
    }
  }

  // --- Passes. Where operators multiply rows, a step gives views the changes of a relation in several parts, so that
  // what is between the operators stays small.

  struct Held {
    ObjectId relation;
    uint64_t rows_at_once;  ///< over all workers
    std::vector<DeltaBatch> rest;
    std::vector<size_t> chunk;
    std::vector<uint32_t> row;
  };

  /// About the rows that one row of the view's inputs may make on its way.
  uint64_t ExpansionOf(const Relation& view) const {
    uint64_t product = 1;
    for (auto i : view.nodes) {
      uint64_t most = 1;
      for (auto& op : nodes_[i]->ops) most = std::max(most, op->Expansion());
      product = std::min<uint64_t>(product * std::min<uint64_t>(most, kRowsBetweenMax), kRowsBetweenMax);
    }
    return product;
  }

  /// Takes all but the first part of large changes out of the outputs of relations whose views multiply them.
  std::vector<Held> HoldBack() {
    std::map<ObjectId, uint64_t> most;  // by relation: expansion of what reads it, directly or through views
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
      Relation& r = At(*it);
      if (!r.plan() || r.failed || aside_.contains(*it)) continue;
      auto expansion = std::min(ExpansionOf(r) * std::max<uint64_t>(most[*it], 1), kRowsBetweenMax);
      if (expansion == 1) continue;
      std::set<ObjectId> scans;
      CollectScans(*r.plan(), scans);
      for (auto below : scans) most[below] = std::max(most[below], expansion);
    }
    std::vector<Held> held;
    for (auto [id, expansion] : most) {
      Relation& r = At(id);
      auto& outputs = nodes_[r.output_node]->outputs;
      if (r.kind == Relation::kView) continue;
      Held h{id, std::max<uint64_t>(kRowsBetweenMax / expansion, 16), {}, {}, {}};
      uint64_t rows = 0;
      for (auto& o : outputs) rows += o.rows();
      if (rows <= h.rows_at_once) continue;
      for (auto& o : outputs) {
        h.rest.push_back({o.types, std::exchange(o.chunks, {})});
        h.chunk.push_back(0);
        h.row.push_back(0);
      }
      GivePart(h);
      held.push_back(std::move(h));
    }
    return held;
  }

  /// Puts the next part of a held relation into its outputs. False when nothing was left.
  bool GivePart(Held& h) {
    auto& outputs = nodes_[At(h.relation).output_node]->outputs;
    uint64_t given = 0;
    for (uint32_t w = 0; w < workers_; w++) {
      auto& chunks = h.rest[w].chunks;
      for (uint64_t left = std::max<uint64_t>(h.rows_at_once / workers_, 1); left > 0 && h.chunk[w] < chunks.size();) {
        auto& c = chunks[h.chunk[w]];
        auto n = uint32_t(std::min<uint64_t>(left, c.size() - h.row[w]));
        SelectionVector sel(n);
        for (uint32_t i = 0; i < n; i++) sel.set_index(i, h.row[w] + i);
        outputs[w].chunks.push_back(SliceChunk(c, sel, n));
        given += n;
        left -= n;
        h.row[w] += n;
        if (h.row[w] < c.size()) continue;
        c = DeltaChunk();
        h.chunk[w]++;
        h.row[w] = 0;
      }
    }
    return given > 0;
  }

  void RunNodeOf(Node& n, uint32_t w) {
    std::vector<const DeltaBatch*> inputs;
    bool any = false;
    uint64_t rows = 0;
    for (auto i : n.inputs) {
      inputs.push_back(InputOf(i, w));
      any |= !inputs.back()->empty();
      rows += inputs.back()->rows();
    }
    if (n.exchange) {
      if (any) Cut(n, *inputs[0], w);
      return;
    }
    Operator& op = *n.ops[w];
    if (!any && !op.NeedsStep()) return;
    auto start = ClockNs(CLOCK_MONOTONIC);
    op.Step(inputs, n.outputs[w], contexts_[w]);
    op.cpu_ns += uint64_t(ClockNs(CLOCK_MONOTONIC) - start);
    op.rows_in += rows;
    op.rows_out += n.outputs[w].rows();
  }

  void Cut(Node& n, const DeltaBatch& in, uint32_t w) {
    auto& parts = n.exchange->parts[w];
    auto& keys = n.exchange->keys[w];
    for (auto& c : in.chunks) {
      if (!keys) {
        parts[0].chunks.push_back(ShareChunk(c));
        continue;
      }
      std::vector<uint64_t> hashes;
      auto hash = [&](DataChunk& rows, std::vector<uint64_t>& out) {
        DataChunk key_chunk;
        keys->Run(rows, key_chunk);
        std::vector<uint32_t> all(key_chunk.ColumnCount());
        for (uint32_t i = 0; i < all.size(); i++) all[i] = i;
        state::HashColumns(key_chunk, all, out);
      };
      try {
        hash(*c.rows, hashes);
      } catch (std::exception&) {
        // Rows whose key fails go anywhere: the consumer evaluates the same keys and reports them.
        hashes.assign(c.size(), 0);
        for (uint32_t i = 0; i < c.size(); i++) {
          SelectionVector one(1);
          one.set_index(0, i);
          std::vector<uint64_t> out;
          try {
            hash(*SliceChunk(c, one, 1).rows, out);
            hashes[i] = out[0];
          } catch (std::exception&) {
          }
        }
      }
      std::vector<SelectionVector> sels;
      std::vector<uint32_t> counts(workers_);
      for (uint32_t to = 0; to < workers_; to++) sels.emplace_back(STANDARD_VECTOR_SIZE);
      for (uint32_t i = 0; i < c.size(); i++) {
        auto to = state::WorkerOf(hashes[i], workers_);
        sels[to].set_index(counts[to]++, i);
      }
      for (uint32_t to = 0; to < workers_; to++)
        if (counts[to] > 0) parts[to].chunks.push_back(SliceChunk(c, sels[to], counts[to]));
    }
  }

  void RunAll() {
    std::vector<uint32_t> all;
    for (uint32_t i = 0; i < nodes_.size(); i++)
      if (nodes_[i] && !aside_.contains(nodes_[i]->view)) all.push_back(i);
    RunPhases(all);
  }
  void RunNodes(const std::vector<uint32_t>& nodes) {
    NextStep();
    backfilling_view_ = nodes.empty() ? 0 : nodes_[nodes[0]]->view;
    RunPhases(nodes);
    backfilling_view_ = 0;
  }
  void RunPhases(const std::vector<uint32_t>& nodes) {
    if (workers_ == 1) {
      for (auto i : nodes) RunNode(*nodes_[i], 0);
      return;
    }
    uint32_t last = 0;
    for (auto i : nodes) last = std::max(last, nodes_[i]->phase);
    std::vector<std::vector<uint32_t>> phases(last + 1);
    for (auto i : nodes) phases[nodes_[i]->phase].push_back(i);
    for (auto& phase : phases)
      pool_.Run([&](uint32_t w) {
        for (auto i : phase) RunNode(*nodes_[i], w);
      });
  }

  void Capture(Relation& r) {
    if (!r.keep) return;
    for (auto& o : nodes_[r.output_node]->outputs) AppendCopy(o, r.kept);
  }

  static duckdb::vector<duckdb::Value> RowValues(const state::RowStore& store, RowId id) {
    duckdb::vector<duckdb::Value> values;
    for (uint32_t c = 0; c < store.layout().columns.size(); c++) {
      Vector v(store.layout().columns[c].type, 1);
      store.Gather(c, &id, 1, v);
      values.push_back(v.GetValue(0));
    }
    return values;
  }

  void EmitRows(Relation& r, uint32_t w, const std::vector<RowId>& rows, int64_t sign) {
    auto& store = r.stores[w]->arrangement->store();
    auto& out = nodes_[r.output_node]->outputs[w];
    for (size_t at = 0; at < rows.size(); at += STANDARD_VECTOR_SIZE) {
      auto n = uint32_t(std::min<size_t>(STANDARD_VECTOR_SIZE, rows.size() - at));
      DeltaChunk c;
      c.rows = std::make_unique<DataChunk>();
      c.rows->InitializeEmpty(r.types);
      for (uint32_t i = 0; i < r.types.size(); i++) {
        Vector v(r.types[i]);
        store.Gather(i, rows.data() + at, n, v);
        c.rows->data[i].Reference(v);
      }
      c.rows->SetCardinality(n);
      if (sign != 1) c.weights.assign(n, sign);
      out.chunks.push_back(std::move(c));
    }
  }

  /// Exact deltas: applied to the table's store and passed on.
  void Feed(Relation& r, DeltaBatch&& delta) {
    if (delta.empty()) return;
    auto& outputs = nodes_[r.output_node]->outputs;
    if (r.kind == Relation::kStream) {
      for (auto& c : delta.chunks) outputs[r.next_worker++ % workers_].chunks.push_back(std::move(c));
      return;
    }
    if (workers_ == 1) {
      r.stores[0]->arrangement->Apply(delta, step_);
      outputs[0].Append(std::move(delta));
      return;
    }
    std::vector<DeltaBatch> parts(workers_);
    std::vector<uint64_t> hashes;
    for (auto& p : parts) p.types = r.types;
    for (auto& c : delta.chunks) {
      state::HashColumns(*c.rows, r.stores[0]->arrangement->key(), hashes);
      for (uint32_t w = 0; w < workers_; w++) {
        SelectionVector sel(STANDARD_VECTOR_SIZE);
        uint32_t n = 0;
        for (uint32_t i = 0; i < c.size(); i++)
          if (state::WorkerOf(hashes[i], workers_) == w) sel.set_index(n++, i);
        if (n > 0) parts[w].chunks.push_back(SliceChunk(c, sel, n));
      }
    }
    for (uint32_t w = 0; w < workers_; w++) {
      r.stores[w]->arrangement->Apply(parts[w], step_);
      outputs[w].Append(std::move(parts[w]));
    }
  }

  /// Turns what upstream says into the delta of the stored rows, and stores it.
  void Resolve(Relation& r, ChangeChunk& change) {
    DataChunk& in = *change.rows;
    auto n = uint32_t(in.size());
    if (n == 0) return;
    if (!r.has_key) {
      for (auto op : change.ops)
        TW_CHECK(op == ChangeOp::kInsert || op == ChangeOp::kTruncate, "a table without a key takes only inserts");
      if (change.ops.empty() ||
          std::none_of(change.ops.begin(), change.ops.end(), [](auto op) { return op == ChangeOp::kTruncate; })) {
        DeltaBatch delta;
        delta.types = r.types;
        DeltaChunk c;
        c.rows = std::move(change.rows);
        delta.chunks.push_back(std::move(c));
        Feed(r, std::move(delta));
        return;
      }
    }
    in.Flatten();
    std::vector<uint64_t> hashes;
    auto& key_columns = r.stores[0]->arrangement->key();
    state::HashColumns(in, key_columns, hashes);
    std::vector<UnifiedVectorFormat> formats(r.types.size());
    auto prepare = [&] {
      for (uint32_t c = 0; c < formats.size(); c++) in.data[c].ToUnifiedFormat(n, formats[c]);
    };
    prepare();
    std::vector<UnifiedVectorFormat> keys(key_columns.size());
    for (size_t k = 0; k < keys.size(); k++) in.data[key_columns[k]].ToUnifiedFormat(n, keys[k]);
    std::optional<state::ProbeColumns> probe(std::in_place, in, r.stores[0]->arrangement->store().layout());
    std::vector<std::vector<RowId>> minus(workers_), plus(workers_);
    std::optional<duckdb::vector<duckdb::Value>> moved_row;
    size_t unchanged_at = 0;
    constexpr uint32_t kAhead = 8;
    for (uint32_t i = 0; i < n; i++) {
      if (i + kAhead < n)
        r.stores[state::WorkerOf(hashes[i + kAhead], workers_)]->arrangement->PrefetchHead(hashes[i + kAhead]);
      ChangeOp op = change.ops.empty() ? ChangeOp::kInsert : change.ops[i];
      if (op == ChangeOp::kTruncate) {
        for (uint32_t w = 0; w < workers_; w++) {
          auto& a = *r.stores[w]->arrangement;
          for (uint32_t b = 0; b < a.store().BlockCount(); b++) {
            auto* block = a.store().BlockOrNull(b);
            if (!block) continue;
            for (uint32_t row = 0; row < block->count; row++) {
              if (block->Death(row) != state::kNeverStep) continue;
              a.Kill(state::MakeRowId(b, row), step_);
              minus[w].push_back(state::MakeRowId(b, row));
            }
          }
        }
        continue;
      }
      uint32_t w = state::WorkerOf(hashes[i], workers_);
      auto& a = *r.stores[w]->arrangement;
      RowId old = r.has_key ? a.Find(keys, i, hashes[i]) : state::kNoRow;
      if (op == ChangeOp::kDelete || op == ChangeOp::kMove) {
        if (op == ChangeOp::kMove) moved_row.reset();
        if (old == state::kNoRow) continue;
        if (op == ChangeOp::kMove) moved_row = RowValues(a.store(), old);
        a.Kill(old, step_);
        minus[w].push_back(old);
        continue;
      }
      // Columns that upstream did not send come from the old row.
      bool filled = false;
      while (unchanged_at < change.unchanged.size() && change.unchanged[unchanged_at].first < i) unchanged_at++;
      for (; unchanged_at < change.unchanged.size() && change.unchanged[unchanged_at].first == i; unchanged_at++) {
        auto c = change.unchanged[unchanged_at].second;
        std::optional<duckdb::Value> value;
        if (moved_row) {
          value = (*moved_row)[c];
        } else if (old != state::kNoRow) {
          Vector v(r.types[c], 1);
          a.store().Gather(c, &old, 1, v);
          value = v.GetValue(0);
        }
        in.data[c].SetValue(i, value ? *value : duckdb::Value(r.types[c]));
        filled = true;
      }
      moved_row.reset();
      if (filled) {
        prepare();
        probe.emplace(in, a.store().layout());
      }
      if (old != state::kNoRow) {
        bool same = true;
        for (uint32_t c = 0; c < r.types.size() && same; c++) same = a.store().Equals(old, c, probe->formats[c], i);
        if (same) continue;
        a.Kill(old, step_);
        minus[w].push_back(old);
      }
      plus[w].push_back(a.InsertOne(in, formats, i, hashes[i], step_));
    }
    for (uint32_t w = 0; w < workers_; w++) {
      EmitRows(r, w, minus[w], -1);
      EmitRows(r, w, plus[w], 1);
    }
  }

  template <class F>
  void ForEachOp(F&& f) {
    for (auto id : order_) {
      Relation& r = At(id);
      for (uint32_t w = 0; w < r.own_stores.size(); w++)
        f(id, std::string(r.kind == Relation::kTable ? "table" : "store"), *r.own_stores[w], w);
      for (auto i : r.nodes) {
        auto& n = *nodes_[i];
        for (uint32_t w = 0; w < n.ops.size(); w++)
          f(id, n.ops[w]->node < 0 ? std::string("store") : std::to_string(n.ops[w]->node), *n.ops[w], w);
      }
    }
  }
  Operator* FindOp(ObjectId view, const std::string& node, uint32_t w) {
    Operator* found = nullptr;
    Relation& r = At(view);
    if (!r.own_stores.empty())
      return node == (r.kind == Relation::kTable ? "table" : "store") ? r.own_stores[w].get() : nullptr;
    for (auto i : r.nodes) {
      auto& n = *nodes_[i];
      if (w < n.ops.size() && (n.ops[w]->node < 0 ? "store" : std::to_string(n.ops[w]->node)) == node)
        found = n.ops[w].get();
    }
    return found;
  }
  std::unique_ptr<Operator> CloneOp(ObjectId view, const std::string& node) {
    Relation& r = At(view);
    if (node == "table" || node == "store") {
      if (r.stores.empty()) return nullptr;
      auto& a = *r.stores[0]->arrangement;
      return std::make_unique<StoreOp>(view, r.types, a.key(), a.indexed());
    }
    const PlanNode* found = nullptr;
    std::function<void(const PlanNode&)> visit = [&](const PlanNode& n) {
      if (std::to_string(n.id) == node) found = &n;
      for (auto& c : n.inputs) visit(*c);
    };
    if (r.plan()) visit(*r.plan());
    return found ? MakeOp(view, *found, 0) : nullptr;
  }

  const uint32_t workers_;
  WorkerPool pool_;
  std::vector<std::unique_ptr<duckdb::Connection>> connections_;
  std::vector<StepContext> contexts_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<ObjectId, std::unique_ptr<Relation>> relations_;
  std::vector<ObjectId> order_;
  std::map<ObjectId, std::vector<duckdb::unique_ptr<duckdb::Expression>>> owned_expressions_;
  Relation* building_ = nullptr;
  std::map<ObjectId, std::vector<DeltaBatch>*> overrides_;
  std::set<ObjectId> aside_;  ///< views in their backfill
  ObjectId backfilling_view_ = 0;
  DeltaBatch empty_;
  StepNumber step_ = 1;

  std::mutex fault_mutex_;
  std::vector<Fault> faults_;  // guarded by fault_mutex_

  std::mutex pin_mutex_;
  StepNumber published_step_ = 0;
  std::atomic<Epoch> published_{0};

  std::map<std::string, uint64_t> streams_;  ///< bytes that recovery reads
  std::vector<std::string> dropped_streams_;
  std::map<std::pair<ObjectId, std::string>, std::vector<std::unique_ptr<Operator>>> foreign_;
  std::set<std::string> foreign_streams_;
};

class SnapshotImpl : public Snapshot {
 public:
  struct Stored {
    std::shared_ptr<const ReaderViews> views;
    std::vector<std::shared_ptr<Arrangement>> arrangements;
    std::vector<uint32_t> key;
    Types types;
  };
  StepNumber step = 0;
  Epoch epoch_ = 0;
  std::map<ObjectId, Stored> relations;

  Epoch epoch() const override { return epoch_; }

  const Stored* Get(ObjectId id) const {
    auto it = relations.find(id);
    return it == relations.end() ? nullptr : &it->second;
  }
  uint64_t Rows(ObjectId relation) const override {
    uint64_t n = 0;
    if (auto* s = Get(relation))
      for (auto& [w, b] : s->views->parts) n += s->views->blocks[w][b].count;
    return n;
  }
  uint64_t Parts(ObjectId relation) const override {
    auto* s = Get(relation);
    return s ? s->views->parts.size() : 0;
  }
  bool Scan(ObjectId relation, uint64_t part, uint64_t& resume, const std::vector<uint32_t>& columns,
            DataChunk& out) const override {
    auto* s = Get(relation);
    TW_CHECK(s && part < s->views->parts.size(), "scan of part {} of relation {}", part, relation);
    auto [w, b] = s->views->parts[part];
    auto& view = s->views->blocks[w][b];
    const Block& block = *view.block;
    // `resume` counts row copies handed out so far.
    SelectionVector sel(STANDARD_VECTOR_SIZE);
    uint32_t n = 0;
    uint64_t skipped = 0;
    bool more = false;
    bool weights = block.HasWeights(), deaths = block.HasDeaths();
    if (!weights) {
      for (uint32_t r = 0; r < view.count; r++)
        if (!deaths || block.Death(r) > step) sel.set_index(n++, r);
    } else {
      for (uint32_t r = 0; r < view.count && !more; r++) {
        if (block.Death(r) <= step) continue;
        for (int64_t k = 0; k < block.Weight(r); k++) {
          if (skipped++ < resume) continue;
          if (n == STANDARD_VECTOR_SIZE) {
            more = true;
            break;
          }
          sel.set_index(n++, r);
        }
      }
      resume += n;
    }
    auto& layout = s->arrangements[w]->store().layout();
    for (size_t i = 0; i < columns.size(); i++) {
      Vector v(layout.columns[columns[i]].type, nullptr);
      state::ReadColumn(block, layout.columns[columns[i]], columns[i], view.count, v);
      if (n == view.count && !weights)
        out.data[i].Reference(v);
      else
        out.data[i].Slice(v, sel, n);
    }
    out.SetCardinality(n);
    return more;
  }
  void Lookup(ObjectId relation, const duckdb::vector<duckdb::Value>& key, DeltaBatch& out) const override {
    auto* s = Get(relation);
    if (!s || s->key.empty()) return;
    Types types;
    for (auto c : s->key) types.push_back(s->types[c]);
    DataChunk keys;
    keys.Initialize(duckdb::Allocator::DefaultAllocator(), types);
    for (size_t i = 0; i < key.size(); i++) keys.SetValue(i, 0, key[i].DefaultCastAs(types[i]));
    keys.SetCardinality(1);
    std::vector<uint32_t> all;
    std::vector<UnifiedVectorFormat> formats(key.size());
    for (uint32_t i = 0; i < key.size(); i++) {
      all.push_back(i);
      keys.data[i].ToUnifiedFormat(1, formats[i]);
    }
    std::vector<uint64_t> hashes;
    state::HashColumns(keys, all, hashes);
    for (size_t w = 0; w < s->arrangements.size(); w++) {
      auto& a = *s->arrangements[w];
      auto& views = s->views->blocks[w];
      auto visible = [&](RowId id) {
        auto b = state::BlockOf(id);
        return b < views.size() && views[b].block && state::OffsetOf(id) < views[b].count &&
               a.store().GetBlock(b).Death(state::OffsetOf(id)) > step;
      };
      std::shared_lock lock(a.lookup_mutex);
      if (a.cleanings() == s->views->cleanings[w]) {
        for (RowId id = a.Head(hashes[0]); id < state::HashIndex::kEndOfChain;) {
          if (visible(id) && a.KeyEquals(id, formats, 0)) AppendFound(*s, a.store(), id, out);
          id = a.store().GetBlock(state::BlockOf(id)).next[state::OffsetOf(id)];
        }
        continue;
      }
      lock.unlock();
      // Rows moved since this snapshot was taken: the blocks it holds still have them.
      for (uint64_t part = 0; part < s->views->parts.size(); part++) {
        if (s->views->parts[part].first != w) continue;
        std::vector<uint32_t> columns;
        for (uint32_t c = 0; c < s->types.size(); c++) columns.push_back(c);
        DataChunk rows;
        rows.InitializeEmpty(s->types);
        uint64_t resume = 0;
        Scan(relation, part, resume, columns, rows);
        for (idx_t r = 0; r < rows.size(); r++) {
          bool same = true;
          for (size_t k = 0; k < key.size() && same; k++)
            same = duckdb::Value::NotDistinctFrom(rows.GetValue(s->key[k], r), keys.GetValue(k, 0));
          if (!same) continue;
          duckdb::vector<duckdb::Value> values;
          for (auto c : columns) values.push_back(rows.GetValue(c, r));
          out.AppendRow(values);
        }
      }
    }
  }

 private:
  static void AppendFound(const Stored& s, const state::RowStore& store, RowId id, DeltaBatch& out) {
    duckdb::vector<duckdb::Value> values;
    for (uint32_t c = 0; c < s.types.size(); c++) {
      Vector v(s.types[c], 1);
      store.Gather(c, &id, 1, v);
      values.push_back(v.GetValue(0));
    }
    out.AppendRow(values);
  }
};

class BackfillImpl : public Backfill {
 public:
  BackfillImpl(CircuitImpl& circuit, ObjectId view, std::function<std::optional<DeltaBatch>(ObjectId)> streams)
      : circuit_(circuit), view_(view), streams_(std::move(streams)) {
    CircuitImpl::CollectScans(*circuit_.At(view).plan(), inputs_);
    circuit_.aside_.insert(view);
    // Operators that act without input do so now: nothing reads the view itself.
    std::vector<DeltaBatch> none(circuit_.workers_);
    circuit_.FeedView(circuit_.At(view_), view_, none);
    to_ = Pinned();
    BeginRound();
    for (auto& [relation, w, b] : parts_) rows_total_ += to_->relations.at(relation).views->blocks[w][b].count;
  }

  Result<bool> Share(uint64_t rows) override {
    Relation& view = circuit_.At(view_);
    view.kept.chunks.clear();
    for (uint64_t fed = 0; fed < rows && !view.failed;) {
      if (auto work = FeedStored(view); work) {
        fed += *work;
      } else if (auto m = FeedStream(view); m) {
        fed += *m;
      } else if (to_->step == circuit_.published_step_) {
        return true;
      } else {
        from_ = std::move(to_);
        to_ = Pinned();
        rounds_++;
        BeginRound();
      }
    }
    if (view.failed) return std::unexpected(FaultOfView());
    return false;
  }

  void Finish() override {
    circuit_.aside_.erase(view_);
    std::lock_guard lock(circuit_.pin_mutex_);
    circuit_.At(view_).views_stale = true;
  }

  uint32_t rounds() const override { return rounds_; }
  uint64_t rows_done() const override { return rows_done_; }
  uint64_t rows_total() const override { return rows_total_; }

 private:
  struct Part {
    ObjectId relation;
    uint32_t worker, block;
  };

  std::shared_ptr<const SnapshotImpl> Pinned() const {
    return std::static_pointer_cast<const SnapshotImpl>(circuit_.Pin());
  }

  void BeginRound() {
    parts_.clear();
    next_ = next_row_ = 0;
    fed_ = 0;
    for (auto relation : inputs_) {
      auto* to = to_->Get(relation);
      if (!to) continue;
      for (uint32_t w = 0; w < to->views->blocks.size(); w++) {
        size_t n = to->views->blocks[w].size();
        if (from_) n = std::max(n, from_->Get(relation)->views->blocks[w].size());
        for (uint32_t b = 0; b < n; b++)
          if (View(to_.get(), relation, w, b) || View(from_.get(), relation, w, b)) parts_.push_back({relation, w, b});
      }
    }
    for (auto relation : inputs_)
      if (!to_->Get(relation)) open_streams_.insert(relation);
  }

  static const BlockView* View(const SnapshotImpl* snapshot, ObjectId relation, uint32_t w, uint32_t b) {
    if (!snapshot) return nullptr;
    auto& blocks = snapshot->Get(relation)->views->blocks[w];
    return b < blocks.size() && blocks[b].block ? &blocks[b] : nullptr;
  }

  Error FaultOfView() {
    std::lock_guard lock(circuit_.fault_mutex_);
    auto it = std::find_if(circuit_.faults_.begin(), circuit_.faults_.end(), [&](auto& f) { return f.view == view_; });
    TW_CHECK(it != circuit_.faults_.end(), "view {} has no fault", view_);
    Fault fault = *it;
    circuit_.faults_.erase(it);
    if (fault.memory) return UserError("53200", "out of memory: {}", fault.message);
    return EnvError(ErrorKind::kInternal, "{}", fault.message);
  }

  /// The next rows of one stored relation: how much work that was, in rows. Nothing when the round is over.
  std::optional<uint64_t> FeedStored(Relation& view) {
    if (next_ == parts_.size()) return std::nullopt;
    // To look for deaths in a block costs about as much as to feed so many rows.
    constexpr uint64_t kRowsAtOnce = 4 * state::kBlockRows, kLookRows = 32, kFirstRows = 64;
    auto relation = parts_[next_].relation;
    // How much a row becomes is seen from the first of each relation.
    rows_at_once_ = relation == fed_ ? rows_at_once_ * 2 : kFirstRows;
    fed_ = relation;
    rows_at_once_ =
        std::min({rows_at_once_, kRowsAtOnce, std::max<uint64_t>(kRowsBetweenMax / circuit_.ExpansionOf(view), 16)});
    Relation& input = circuit_.At(relation);
    std::vector<DeltaBatch> batches(circuit_.workers_);
    for (auto& b : batches) b.types = input.types;
    uint64_t rows = 0, looked = 0;
    while (next_ < parts_.size() && parts_[next_].relation == relation && rows + looked < rows_at_once_) {
      looked += kLookRows;
      auto [_, w, b] = parts_[next_];
      auto* from = View(from_.get(), relation, w, b);
      auto* to = View(to_.get(), relation, w, b);
      auto& layout = input.stores[w]->arrangement->store().layout();
      // Rows first .. last of both.
      uint32_t first = next_row_, all = std::max(from ? from->count : 0, to ? to->count : 0);
      auto last = uint32_t(std::min<uint64_t>(all, first + rows_at_once_ - rows));
      next_row_ = last < all ? last : 0;
      if (next_row_ == 0) next_++;
      auto append = [&](const BlockView& part, auto&& sign) {
        rows += Append(part, first, last, layout, batches[w], sign);
      };
      if (from && to && from->block == to->block) {
        if (from->count == to->count && !to->block->HasDeaths()) continue;
        append(*to, [&](uint32_t r) -> int {
          auto death = to->block->Death(r);
          if (r >= from->count) return death > to_->step ? 1 : 0;
          return death > from_->step && death <= to_->step ? -1 : 0;
        });
        continue;
      }
      // Another block has taken the number, or the rows moved to a larger one.
      if (from) append(*from, [&](uint32_t r) { return from->block->Death(r) > from_->step ? -1 : 0; });
      if (to) append(*to, [&](uint32_t r) { return to->block->Death(r) > to_->step ? 1 : 0; });
    }
    if (rows > 0) circuit_.FeedView(view, relation, batches);
    if (rounds_ == 1) rows_done_ += rows;
    return rows + looked;
  }

  std::optional<uint64_t> FeedStream(Relation& view) {
    while (!open_streams_.empty()) {
      auto relation = *open_streams_.begin();
      auto batch = streams_ ? streams_(relation) : std::nullopt;
      if (!batch) {
        open_streams_.erase(relation);
        continue;
      }
      std::vector<DeltaBatch> batches(circuit_.workers_);
      for (auto& b : batches) b.types = circuit_.At(relation).types;
      uint64_t rows = batch->rows();
      uint32_t w = 0;
      for (auto& c : batch->chunks) batches[w++ % circuit_.workers_].chunks.push_back(std::move(c));
      circuit_.FeedView(view, relation, batches);
      return rows;
    }
    return std::nullopt;
  }

  /// Appends those of the rows first .. last - 1 of a block that `sign` gives +1 or -1, as a chunk that refers to the
  /// block; returns how many.
  template <class Sign>
  static uint64_t Append(const BlockView& part, uint32_t first, uint32_t last, const state::RowLayout& layout,
                         DeltaBatch& out, Sign&& sign) {
    const Block& block = *part.block;
    SelectionVector sel(STANDARD_VECTOR_SIZE);
    std::vector<int64_t> weights;
    uint32_t n = 0;
    bool plain = true;
    for (uint32_t r = first; r < std::min(last, part.count); r++) {
      int s = sign(r);
      if (s == 0) continue;
      sel.set_index(n++, r);
      weights.push_back(s * block.Weight(r));
      plain &= weights.back() == 1;
    }
    if (n == 0) return 0;
    DeltaChunk c;
    c.rows = std::make_unique<DataChunk>();
    c.rows->InitializeEmpty(out.types);
    for (uint32_t i = 0; i < out.types.size(); i++) {
      Vector v(out.types[i], nullptr);
      state::ReadColumn(block, layout.columns[i], i, part.count, v);
      if (n < part.count) v.Slice(sel, n);
      c.rows->data[i].Reference(v);
    }
    c.rows->SetCardinality(n);
    if (!plain) c.weights = std::move(weights);
    out.chunks.push_back(std::move(c));
    return n;
  }

  CircuitImpl& circuit_;
  const ObjectId view_;
  const std::function<std::optional<DeltaBatch>(ObjectId)> streams_;
  std::set<ObjectId> inputs_;
  std::shared_ptr<const SnapshotImpl> from_, to_;
  std::vector<Part> parts_;  ///< of this round
  size_t next_ = 0;
  uint32_t next_row_ = 0;  ///< of that part
  ObjectId fed_ = 0;       ///< the relation last fed
  uint64_t rows_at_once_ = 0;
  std::set<ObjectId> open_streams_;
  uint32_t rounds_ = 1;
  uint64_t rows_done_ = 0, rows_total_ = 0;
};

std::unique_ptr<Backfill> CircuitImpl::BeginBackfill(ObjectId view,
                                                     std::function<std::optional<DeltaBatch>(ObjectId)> streams) {
  return std::make_unique<BackfillImpl>(*this, view, std::move(streams));
}

std::shared_ptr<Snapshot> CircuitImpl::Pin() {
  auto snapshot = std::make_shared<SnapshotImpl>();
  std::lock_guard lock(pin_mutex_);
  snapshot->step = published_step_;
  snapshot->epoch_ = published_;
  for (auto id : order_) {
    Relation& r = At(id);
    if (!r.stored) continue;
    if (r.views_stale) {
      auto views = std::make_shared<ReaderViews>();
      for (uint32_t w = 0; w < workers_; w++) {
        auto& a = *r.stores[w]->arrangement;
        views->blocks.push_back(a.store().Views());
        views->cleanings.push_back(a.cleanings());
        for (uint32_t b = 0; b < views->blocks[w].size(); b++)
          if (views->blocks[w][b].block) views->parts.emplace_back(w, b);
      }
      r.views = std::move(views);
      r.views_stale = false;
    }
    auto& stored = snapshot->relations[id];
    stored.views = r.views;
    for (auto* s : r.stores) stored.arrangements.push_back(s->arrangement);
    stored.key = r.key;
    stored.types = r.types;
  }
  return snapshot;
}

}  // namespace

std::unique_ptr<Circuit> Circuit::Make(duckdb::DatabaseInstance& db, const CircuitOptions& options) {
  return std::make_unique<CircuitImpl>(db, options);
}

}  // namespace tidewater::dataflow

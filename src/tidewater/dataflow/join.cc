// Inner and left join: two arrangements, each probed by the other side's delta.
//
// In a step, the left delta meets the right rows of before the step, then is stored; the right delta meets the left
// rows of after it, then is stored: L' x R' - L x R = dL x R + L' x dR. The left join keeps, beside each stored left
// row, how many right rows match it.
//
// A row whose key fails takes no part at all. Rows are stored whatever the residual says of them: where it fails, the
// error belongs to the pair, has the pair's weight and leaves with either row. Of a left row that has no match but a
// pair that failed it is not known whether it stands alone: it does not come out.
#include <algorithm>
#include "duckdb/planner/expression/bound_reference_expression.hpp"
#include "duckdb/planner/expression_iterator.hpp"
#include "tidewater/dataflow/operator.h"

namespace tidewater::dataflow {
using duckdb::idx_t;
using duckdb::sel_t;
using duckdb::SelectionVector;
using duckdb::UnifiedVectorFormat;
using duckdb::Vector;
using state::Arrangement;
using state::Matches;
using state::RowId;

namespace {

/// So many pairs are looked up before they are made into rows.
constexpr size_t kPairsAtOnce = 1 << 18;

void ForEachReference(duckdb::Expression& e, const std::function<void(duckdb::BoundReferenceExpression&)>& f) {
  if (e.GetExpressionClass() == duckdb::ExpressionClass::BOUND_REF) {
    f(e.Cast<duckdb::BoundReferenceExpression>());
    return;
  }
  duckdb::ExpressionIterator::EnumerateChildren(e, [&](duckdb::Expression& child) { ForEachReference(child, f); });
}

/// One input of the join: which of its columns are stored, and by what key.
struct Side {
  std::vector<uint32_t> columns;  ///< stored columns of the input, ascending
  std::vector<const duckdb::Expression*> keys;
  std::unique_ptr<Projector> key_projector;
  std::vector<int> key_column;  ///< per key: position in `columns` if it is a plain stored column, else -1 - position
                                ///< of the extra column
  Types stored_types;
  std::vector<uint32_t> stored_key;  ///< positions of the key in the stored row
  std::unique_ptr<Arrangement> arrangement;
  bool placeholder = false;  ///< nothing of the input is needed but its rows: one constant column is stored
  std::vector<uint32_t> error_key;

  /// The row to be stored: the kept columns, then the computed keys.
  void MakeStored(DataChunk& in, DataChunk& key_chunk, DataChunk& out) const {
    out.InitializeEmpty(stored_types);
    for (size_t i = 0; i < columns.size(); i++) out.data[i].Reference(in.data[columns[i]]);
    for (size_t k = 0; k < keys.size(); k++)
      if (stored_key[k] >= columns.size()) out.data[stored_key[k]].Reference(key_chunk.data[k]);
    if (placeholder) {
      Vector nothing(duckdb::Value::BOOLEAN(true));
      out.data[0].Reference(nothing);
    }
    out.SetCardinality(in.size());
  }
};

class JoinOp : public Operator {
 public:
  JoinOp(ObjectId view, const PlanNode& n, duckdb::ClientContext& client)
      : Operator(view, n.id, n.join_type == JoinType::kLeft ? "left join" : "join", n.types),
        left_join_(n.join_type == JoinType::kLeft) {
    auto left_width = uint32_t(n.inputs[0]->types.size());
    std::vector<bool> needed[2] = {std::vector<bool>(left_width), std::vector<bool>(n.inputs[1]->types.size())};
    auto need = [&](idx_t c) { c < left_width ? needed[0][c] = true : needed[1][c - left_width] = true; };
    for (auto c : n.output) need(c);
    if (n.residual) {
      residual_ = n.residual->Copy();
      ForEachReference(*residual_, [&](auto& ref) { need(ref.index); });
    }
    null_equal_ = n.null_equal;
    null_equal_.resize(n.left_keys.size());
    for (int s = 0; s < 2; s++) {
      Side& side = sides_[s];
      side.error_key = ErrorKey(*n.inputs[s]);
      for (auto& k : s == 0 ? n.left_keys : n.right_keys) {
        side.keys.push_back(k.get());
        // A key that is a plain column is kept anyway: cheaper than storing its value again.
        if (k->GetExpressionClass() == duckdb::ExpressionClass::BOUND_REF)
          needed[s][k->template Cast<duckdb::BoundReferenceExpression>().index] = true;
      }
      side.key_projector = std::make_unique<Projector>(client, side.keys);
      for (uint32_t c = 0; c < needed[s].size(); c++) {
        if (!needed[s][c]) continue;
        side.columns.push_back(c);
        side.stored_types.push_back(n.inputs[s]->types[c]);
      }
      for (auto* k : side.keys) {
        if (k->GetExpressionClass() == duckdb::ExpressionClass::BOUND_REF) {
          auto c = uint32_t(k->Cast<duckdb::BoundReferenceExpression>().index);
          side.stored_key.push_back(
              uint32_t(std::find(side.columns.begin(), side.columns.end(), c) - side.columns.begin()));
        } else {
          side.stored_key.push_back(uint32_t(side.stored_types.size()));
          side.stored_types.push_back(k->return_type);
        }
      }
      side.placeholder = side.stored_types.empty();
      if (side.placeholder) side.stored_types.push_back(LogicalType::BOOLEAN);
      side.arrangement = std::make_unique<Arrangement>(side.stored_types, side.stored_key);
    }
    // The compact row: stored columns of the left input, then of the right one.
    auto compact = [&](idx_t c) -> uint32_t {
      int s = c < left_width ? 0 : 1;
      auto& columns = sides_[s].columns;
      auto at = std::find(columns.begin(), columns.end(), uint32_t(s == 0 ? c : c - left_width)) - columns.begin();
      return uint32_t(at + (s == 0 ? 0 : sides_[0].columns.size()));
    };
    for (int s = 0; s < 2; s++)
      for (auto c : sides_[s].columns) compact_types_.push_back(n.inputs[s]->types[c]);
    output_columns_.assign(compact_types_.size(), false);
    for (auto c : n.output) {
      output_.push_back(compact(c));
      output_columns_[output_.back()] = true;
    }
    for (size_t c = 0; c < compact_types_.size(); c++)
      if (output_columns_[c]) pair_bytes_ += duckdb::GetTypeIdSize(compact_types_[c].InternalType());
    if (residual_) {
      residual_columns_.assign(compact_types_.size(), false);
      ForEachReference(*residual_, [&](auto& ref) {
        ref.index = compact(ref.index);
        residual_columns_[ref.index] = true;
      });
      // What names a pair is not stored for that alone.
      for (uint32_t s = 0; s < 2; s++)
        if (std::all_of(sides_[s].error_key.begin(), sides_[s].error_key.end(), [&](auto c) { return needed[s][c]; }))
          for (auto c : sides_[s].error_key) pair_key_.push_back(compact(c + s * left_width));
      residual_selector_ = std::make_unique<Selector>(client, std::vector<const duckdb::Expression*>{residual_.get()});
    }
  }

  void Step(const std::vector<const DeltaBatch*>& inputs, DeltaBatch& out, StepContext& context) override {
    ProcessSide(0, *inputs[0], out, context);
    ProcessSide(1, *inputs[1], out, context);
  }

  std::vector<std::string> StateNames() const override { return {"left", "right"}; }
  uint32_t StateParts(const std::string& s) const override { return Of(s).store().Parts(); }
  bool StateChanged(const std::string& s, uint32_t part) const override { return Of(s).store().Changed(part); }
  uint64_t LiveBytes(const std::string& s, uint32_t part) const override { return Of(s).store().LiveBytes(part); }
  uint64_t UnloggedBytes() const override {
    return sides_[0].arrangement->store().UnloggedBytes() + sides_[1].arrangement->store().UnloggedBytes();
  }
  bool Checkpoint(const std::string& s, uint32_t part, bool base, state::ByteWriter& out) override {
    return Of(s).store().Encode(part, base, out, kRecordBytes);
  }
  Status Restore(const std::string& s, uint32_t part, bool base, state::ByteReader& in) override {
    return Of(s).store().Restore(part, in, base);
  }
  void Restored() override {
    for (auto& side : sides_) side.arrangement->Restored();
    if (left_join_) Recount();
  }
  void Absorb(Operator& other, uint32_t worker, uint32_t workers) override {
    for (int s = 0; s < 2; s++)
      AbsorbArrangement(*static_cast<JoinOp&>(other).sides_[s].arrangement, *sides_[s].arrangement, worker, workers);
    if (left_join_) Recount();
  }
  void Publish(state::StepNumber step) override {
    for (int s = 0; s < 2; s++) {
      auto& a = *sides_[s].arrangement;
      a.Publish();
      if (s == 0 && left_join_) {
        a.Clean(step, [&](RowId from, RowId to) { Count(to) = Count(from); });
      } else {
        a.Clean(step);
      }
    }
  }
  uint64_t Expansion() const override {
    // Without a key each row meets all rows of the other side.
    uint64_t all = sides_[0].keys.empty() ? std::max(sides_[0].arrangement->store().live_rows(),
                                                     sides_[1].arrangement->store().live_rows())
                                          : 0;
    return std::max<uint64_t>({all, fan_out_, 1});
  }
  uint64_t StateRows() const override {
    return sides_[0].arrangement->store().live_rows() + sides_[1].arrangement->store().live_rows();
  }
  uint64_t StateBytes() const override { return sides_[0].arrangement->Bytes() + sides_[1].arrangement->Bytes(); }

 private:
  Arrangement& Of(const std::string& s) const { return *sides_[s == "left" ? 0 : 1].arrangement; }

  int64_t& Count(RowId id) {
    auto b = state::BlockOf(id);
    if (b >= counts_.size()) counts_.resize(b + 1);
    if (counts_[b].empty()) counts_[b].resize(state::kBlockRows);
    return counts_[b][state::OffsetOf(id)];
  }

  /// Records that the residual failed for a pair.
  void FailPair(int side, DataChunk& in, sel_t probe, RowId row, int64_t weight, const std::string& message,
                StepContext& context) {
    DataChunk pair;
    pair.InitializeEmpty(compact_types_);
    FillColumns(pair, side, in, false, &probe, &row, 1, std::vector<bool>(compact_types_.size(), true));
    context.Fail(*this, message, pair, 0, pair_key_, weight);
  }

  /// Rebuilds the match counts of all left rows from both arrangements.
  void Recount() {
    counts_.clear();
    auto& left = *sides_[0].arrangement;
    for (uint32_t b = 0; b < left.store().BlockCount(); b++) {
      auto* block = left.store().BlockOrNull(b);
      if (!block || block->count == 0) continue;
      DataChunk chunk;
      state::ReadBlock(*block, left.store().layout(), block->count, chunk);
      std::vector<UnifiedVectorFormat> keys(sides_[0].stored_key.size());
      std::vector<std::unique_ptr<Vector>> encoded;
      for (size_t k = 0; k < keys.size(); k++)
        PrepareKey(sides_[0], k, chunk.data[sides_[0].stored_key[k]], block->count, keys[k], encoded);
      state::HashColumns(chunk, sides_[0].stored_key, hashes_);
      std::vector<sel_t> sel;
      for (uint32_t r = 0; r < block->count; r++)
        if (block->Death(r) == state::kNeverStep) sel.push_back(r);
      // The stored left row starts with the compact left columns, so it can stand for the input row.
      auto count = [&](sel_t row, RowId match) { Count(state::MakeRowId(b, row)) += WeightOf(1, match); };
      for (uint32_t at = 0; at < sel.size();) {
        matches_.clear();
        at = sides_[1].arrangement->Probe(keys, hashes_, sel.data(), at, uint32_t(sel.size()), kPairsAtOnce, matches_);
        ForEachPairs(
            0, chunk, /*stored_probe=*/true, matches_,
            [&](DataChunk&, const sel_t* probe, const RowId* rows, uint32_t n) {
              for (uint32_t i = 0; i < n; i++) count(probe[i], rows[i]);
            },
            [&](sel_t probe, RowId row, const std::string&) { count(probe, row); });
      }
    }
  }

  int64_t WeightOf(int side, RowId id) const {
    return sides_[side].arrangement->store().GetBlock(state::BlockOf(id)).Weight(state::OffsetOf(id));
  }

  /// Cuts `matches` into runs of at most a vector, applies the residual, and calls `f` with the compact chunk (only
  /// output columns are promised to be filled when `fill`), and the surviving pairs. `failed(probe row, stored row,
  /// message)` hears of the pairs for which the residual fails.
  template <class F, class G>
  void ForEachPairs(int side, DataChunk& in, bool stored_probe, const Matches& matches, F&& f, G&& failed,
                    bool fill = false) {
    for (size_t from = 0; from < matches.size(); from += STANDARD_VECTOR_SIZE) {
      auto n = uint32_t(std::min<size_t>(STANDARD_VECTOR_SIZE, matches.size() - from));
      const RowId* rows = matches.rows.data() + from;
      const sel_t* probe = matches.probe.data() + from;
      auto chunk = std::make_unique<DataChunk>();
      chunk->InitializeEmpty(compact_types_);
      std::vector<RowId> kept_rows;
      std::vector<sel_t> kept_probe;
      if (residual_) {
        bool all = false;
        SelectionVector sel(STANDARD_VECTOR_SIZE);
        EvaluateHalving(
            n,
            [&](uint32_t first, uint32_t count) {
              DataChunk part;
              part.InitializeEmpty(compact_types_);
              FillColumns(part, side, in, stored_probe, probe + first, rows + first, count, residual_columns_);
              uint32_t kept = residual_selector_->Run(part, sel);
              all = kept == n;
              if (all) return;
              for (uint32_t i = 0; i < kept; i++) {
                kept_rows.push_back(rows[first + sel.get_index(i)]);
                kept_probe.push_back(probe[first + sel.get_index(i)]);
              }
            },
            [&](uint32_t i, const std::string& message) { failed(probe[i], rows[i], message); });
        if (!all) {
          rows = kept_rows.data();
          probe = kept_probe.data();
          n = uint32_t(kept_rows.size());
          if (n == 0) continue;
        }
      }
      if (fill) FillColumns(*chunk, side, in, stored_probe, probe, rows, n, output_columns_);
      f(*chunk, probe, rows, n);
    }
  }

  /// Fills the wanted columns of a compact chunk with pairs of rows of `in`, which is an input chunk of `side` or,
  /// where `stored_probe`, a stored one, and rows that the other side stores.
  void FillColumns(DataChunk& chunk, int side, DataChunk& in, bool stored_probe, const sel_t* probe, const RowId* rows,
                   uint32_t n, const std::vector<bool>& wanted) {
    int other = 1 - side;
    auto& probe_columns = sides_[side].columns;
    auto& stored_columns = sides_[other].columns;
    auto left_columns = uint32_t(sides_[0].columns.size());
    uint32_t probe_base = side == 0 ? 0 : left_columns, stored_base = side == 0 ? left_columns : 0;
    SelectionVector sel(n);
    for (uint32_t i = 0; i < n; i++) sel.set_index(i, probe[i]);
    for (uint32_t i = 0; i < probe_columns.size(); i++)
      if (wanted[probe_base + i])
        chunk.data[probe_base + i].Slice(in.data[stored_probe ? i : probe_columns[i]], sel, n);
    for (uint32_t i = 0; i < stored_columns.size(); i++) {
      if (!wanted[stored_base + i]) continue;
      Vector v(compact_types_[stored_base + i]);
      sides_[other].arrangement->store().Gather(i, rows, n, v);
      chunk.data[stored_base + i].Reference(v);
    }
    chunk.SetCardinality(n);
  }

  /// The output chunk made of the compact chunk's columns.
  DeltaChunk ToOutput(DataChunk& compact, uint32_t n) const {
    DeltaChunk result;
    result.rows = std::make_unique<DataChunk>();
    result.rows->InitializeEmpty(types);
    for (size_t i = 0; i < output_.size(); i++) result.rows->data[i].Reference(compact.data[output_[i]]);
    result.rows->SetCardinality(n);
    return result;
  }

  /// Left rows of `in` (or stored ones) with NULLs for the right side.
  void EmitUnmatched(DataChunk& compact_left, const std::vector<int64_t>& weights, DeltaBatch& out) const {
    auto n = compact_left.size();
    if (n == 0) return;
    DeltaChunk result;
    result.rows = std::make_unique<DataChunk>();
    result.rows->InitializeEmpty(types);
    auto left = sides_[0].columns.size();
    for (size_t i = 0; i < output_.size(); i++) {
      if (output_[i] < left) {
        result.rows->data[i].Reference(compact_left.data[output_[i]]);
      } else {
        Vector null{duckdb::Value(types[i])};
        result.rows->data[i].Reference(null);
      }
    }
    result.rows->SetCardinality(n);
    result.weights = weights;
    out.chunks.push_back(std::move(result));
  }

  void ProcessSide(int s, const DeltaBatch& delta, DeltaBatch& out, StepContext& context) {
    if (delta.empty()) return;
    Side& side = sides_[s];
    std::vector<std::pair<RowId, int64_t>> touched;  // left join, s == 1: left rows and their match count before
    DeltaBatch stored;
    stored.types = side.stored_types;
    std::vector<std::vector<int64_t>> stored_counts;
    for (auto& chunk : delta.chunks) {
      EvaluateRows(chunk, *this, side.error_key, context, [&](const DeltaChunk& c) {
        DataChunk& in = *c.rows;
        auto n = uint32_t(in.size());
        touches_.clear();
        DataChunk key_chunk;
        side.key_projector->Run(in, key_chunk);
        // Nothing below throws a RowError.
        std::vector<UnifiedVectorFormat> keys(side.keys.size());
        std::vector<std::unique_ptr<Vector>> encoded;
        bool nulls = false;
        for (size_t k = 0; k < keys.size(); k++) {
          PrepareKey(side, k, key_chunk.data[k], n, keys[k], encoded);
          nulls |= !null_equal_[k] && !keys[k].validity.AllValid();
        }
        std::vector<uint32_t> all(keys.size());
        for (uint32_t k = 0; k < all.size(); k++) all[k] = k;
        key_chunk.SetCardinality(n);
        state::HashColumns(key_chunk, all, hashes_);
        valid_.clear();
        if (nulls) {
          for (uint32_t i = 0; i < n; i++) {
            bool ok = true;
            for (size_t k = 0; k < keys.size(); k++)
              ok &= null_equal_[k] || keys[k].validity.RowIsValid(keys[k].sel->get_index(i));
            if (ok) valid_.push_back(i);
          }
        }
        const sel_t* sel = nulls ? valid_.data() : nullptr;
        uint32_t stored_rows = nulls ? uint32_t(valid_.size()) : n;
        std::vector<int64_t> matched(left_join_ && s == 0 ? n : 0);
        bool weighted = !c.weights.empty();
        auto count = [&](sel_t probe, RowId row) {
          if (!left_join_) return;
          if (s == 0)
            matched[probe] += WeightOf(1, row);
          else
            touches_.push_back({row, c.weight(probe)});
        };
        for (uint32_t at = 0; at < stored_rows;) {
          auto from = at;
          matches_.clear();
          at = sides_[1 - s].arrangement->Probe(keys, hashes_, sel, at, stored_rows, kPairsAtOnce, matches_);
          fan_out_ = std::max<uint64_t>(fan_out_, matches_.size() / (at - from));
          context.Take(matches_.size() * pair_bytes_, *this);
          ForEachPairs(
              s, in, false, matches_,
              [&](DataChunk& compact, const sel_t* probe, const RowId* rows, uint32_t pairs) {
                auto result = ToOutput(compact, pairs);
                bool plain = !weighted;
                for (uint32_t i = 0; i < pairs && plain; i++)
                  plain = !sides_[1 - s].arrangement->store().GetBlock(state::BlockOf(rows[i])).HasWeights();
                if (!plain) {
                  result.weights.resize(pairs);
                  for (uint32_t i = 0; i < pairs; i++)
                    result.weights[i] = c.weight(probe[i]) * WeightOf(1 - s, rows[i]);
                }
                for (uint32_t i = 0; i < pairs && left_join_; i++) count(probe[i], rows[i]);
                out.chunks.push_back(std::move(result));
              },
              [&](sel_t probe, RowId row, const std::string& message) {
                FailPair(s, in, probe, row, c.weight(probe) * WeightOf(1 - s, row), message, context);
                count(probe, row);
              },
              true);
        }
        for (auto& [row, weight] : touches_) {
          int64_t& count_ref = Count(row);
          touched.push_back({row, count_ref});
          count_ref += weight;
        }
        touches_.clear();
        if (left_join_ && s == 0) {
          SelectionVector unmatched(STANDARD_VECTOR_SIZE);
          std::vector<int64_t> weights;
          for (uint32_t i = 0; i < n; i++) {
            if (matched[i] != 0) continue;
            unmatched.set_index(weights.size(), i);
            weights.push_back(c.weight(i));
          }
          DataChunk compact;
          compact.InitializeEmpty(compact_types_);
          for (size_t i = 0; i < side.columns.size(); i++)
            compact.data[i].Slice(in.data[side.columns[i]], unmatched, weights.size());
          compact.SetCardinality(weights.size());
          EmitUnmatched(compact, weights, out);
        }
        DeltaChunk keep;
        keep.rows = std::make_unique<DataChunk>();
        side.MakeStored(in, key_chunk, *keep.rows);
        keep.weights = c.weights;
        if (nulls) {
          SelectionVector kept(std::max<uint32_t>(stored_rows, 1));
          for (uint32_t i = 0; i < stored_rows; i++) kept.set_index(i, valid_[i]);
          keep = SliceChunk(keep, kept, stored_rows);
          if (!matched.empty()) {
            std::vector<int64_t> m(stored_rows);
            for (uint32_t i = 0; i < stored_rows; i++) m[i] = matched[valid_[i]];
            matched = std::move(m);
          }
        }
        if (stored_rows > 0) {
          stored.chunks.push_back(std::move(keep));
          stored_counts.push_back(std::move(matched));
        }
      });
    }
    if (left_join_ && s == 0) {
      // Insertions get their match counts; all insertions come before the first removal, as in Arrangement::Apply.
      for (size_t i = 0; i < stored.chunks.size(); i++) {
        auto& c = stored.chunks[i];
        state::HashColumns(*c.rows, side.stored_key, hashes_);
        std::vector<sel_t> rows;
        std::vector<int64_t> weights;
        for (uint32_t r = 0; r < c.size(); r++) {
          if (c.weight(r) <= 0) continue;
          rows.push_back(r);
          weights.push_back(c.weight(r));
        }
        if (rows.empty()) continue;
        InsertCounted(*c.rows, rows, weights, stored_counts[i], context.step);
      }
      DeltaBatch removals;
      removals.types = stored.types;
      for (auto& c : stored.chunks) {
        SelectionVector negative(STANDARD_VECTOR_SIZE);
        uint32_t n = 0;
        for (uint32_t r = 0; r < c.size(); r++)
          if (c.weight(r) < 0) negative.set_index(n++, r);
        if (n > 0) removals.chunks.push_back(SliceChunk(c, negative, n));
      }
      RemoveCounted(removals, context.step);
    } else {
      side.arrangement->Apply(stored, context.step);
    }
    if (!touched.empty()) EmitTransitions(touched, out);
  }

  void InsertCounted(DataChunk& chunk, const std::vector<sel_t>& rows, const std::vector<int64_t>& weights,
                     const std::vector<int64_t>& counts, state::StepNumber step) {
    inserted_.clear();
    sides_[0].arrangement->Insert(chunk, rows.data(), uint32_t(rows.size()), weights.data(), hashes_, step, &inserted_);
    for (size_t i = 0; i < rows.size(); i++) Count(inserted_[i]) = counts[rows[i]];
  }

  void RemoveCounted(const DeltaBatch& removals, state::StepNumber step) {
    auto& a = *sides_[0].arrangement;
    for (auto& c : removals.chunks) {
      state::HashColumns(*c.rows, a.key(), hashes_);
      state::ProbeColumns columns(*c.rows, a.store().layout());
      for (uint32_t i = 0; i < c.size(); i++)
        a.Remove(*c.rows, columns, i, -c.weights[i], hashes_[i], step,
                 [&](RowId from, RowId to) { Count(to) = Count(from); });
    }
  }

  /// Left rows whose number of matches went from none to some or back.
  void EmitTransitions(std::vector<std::pair<RowId, int64_t>>& touched, DeltaBatch& out) {
    // The first entry of a row has its count of before the step.
    std::stable_sort(touched.begin(), touched.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::vector<RowId> rows;
    std::vector<int64_t> weights;
    auto flush = [&] {
      if (rows.empty()) return;
      DataChunk compact;
      compact.InitializeEmpty(compact_types_);
      for (uint32_t i = 0; i < sides_[0].columns.size(); i++) {
        Vector v(compact_types_[i]);
        sides_[0].arrangement->store().Gather(i, rows.data(), uint32_t(rows.size()), v);
        compact.data[i].Reference(v);
      }
      compact.SetCardinality(rows.size());
      EmitUnmatched(compact, weights, out);
      rows.clear();
      weights.clear();
    };
    for (size_t i = 0; i < touched.size(); i++) {
      if (i > 0 && touched[i].first == touched[i - 1].first) continue;
      bool before = touched[i].second != 0, after = Count(touched[i].first) != 0;
      if (before == after) continue;
      rows.push_back(touched[i].first);
      weights.push_back(WeightOf(0, touched[i].first) * (after ? -1 : 1));
      if (rows.size() == STANDARD_VECTOR_SIZE) flush();
    }
    flush();
  }

  /// Makes values of key `k` ready for comparing with stored ones: nested values in their stored form, which `keep`
  /// holds.
  static void PrepareKey(const Side& side, size_t k, Vector& v, uint32_t n, UnifiedVectorFormat& format,
                         std::vector<std::unique_ptr<Vector>>& keep) {
    if (side.arrangement->store().layout().columns[side.stored_key[k]].kind != state::ColumnKind::kNested) {
      v.ToUnifiedFormat(n, format);
      return;
    }
    auto blob = std::make_unique<Vector>(LogicalType::BLOB, std::max<idx_t>(n, 1));
    for (uint32_t r = 0; r < n; r++) {
      auto value = v.GetValue(r);
      if (value.IsNull()) {
        duckdb::FlatVector::SetNull(*blob, r, true);
      } else {
        duckdb::FlatVector::GetData<duckdb::string_t>(*blob)[r] =
            duckdb::StringVector::AddStringOrBlob(*blob, state::EncodeNested(value));
      }
    }
    blob->ToUnifiedFormat(n, format);
    keep.push_back(std::move(blob));
  }

  const bool left_join_;
  Side sides_[2];
  std::vector<bool> null_equal_;
  duckdb::unique_ptr<duckdb::Expression> residual_;
  std::unique_ptr<Selector> residual_selector_;
  std::vector<bool> residual_columns_, output_columns_;  ///< of the compact row
  std::vector<uint32_t> pair_key_;                       ///< columns of the compact row that name a pair in errors
  Types compact_types_;
  std::vector<uint32_t> output_;                         ///< positions in the compact row
  uint64_t pair_bytes_ = sizeof(RowId) + sizeof(sel_t);  ///< of a pair in the output
  uint64_t fan_out_ = 0;                                 ///< most pairs that one row made, on average over a chunk
  std::vector<std::vector<int64_t>> counts_;
  std::vector<std::pair<RowId, int64_t>> touches_;
  std::vector<RowId> inserted_;
  std::vector<uint64_t> hashes_;
  std::vector<sel_t> valid_;
  Matches matches_;
};

}  // namespace

std::unique_ptr<Operator> MakeJoin(ObjectId view, const PlanNode& n, duckdb::ClientContext& client) {
  return std::make_unique<JoinOp>(view, n, client);
}

void AbsorbArrangement(Arrangement& from, Arrangement& to, uint32_t worker, uint32_t workers) {
  std::vector<uint64_t> hashes;
  for (uint32_t b = 0; b < from.store().BlockCount(); b++) {
    auto* block = from.store().BlockOrNull(b);
    if (!block) continue;
    DataChunk chunk;
    state::ReadBlock(*block, from.store().layout(), block->count, chunk);
    state::HashColumns(chunk, to.key(), hashes);
    std::vector<sel_t> sel;
    std::vector<int64_t> weights;
    for (uint32_t r = 0; r < block->count; r++) {
      if (block->Death(r) != state::kNeverStep || state::WorkerOf(hashes[r], workers) != worker) continue;
      sel.push_back(r);
      weights.push_back(block->Weight(r));
    }
    to.Insert(chunk, sel.data(), uint32_t(sel.size()), block->HasWeights() ? weights.data() : nullptr, hashes, 0);
  }
}

}  // namespace tidewater::dataflow

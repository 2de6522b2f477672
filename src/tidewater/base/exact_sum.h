// ExactSum: the sum of doubles without rounding, so that it does not depend on their order and takes retractions back
// exactly.
//
// A superaccumulator (Kulisch): the sum as a wide fixed-point number in limbs of 32 bits, of which only the touched
// range is kept.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace tidewater {

class ExactSum {
 public:
  /// Adds `x`, `weight` times (weight may be negative).
  void Add(double x, int64_t weight = 1) {
    if (std::isnan(x)) {
      nan_ += weight;
      return;
    }
    if (std::isinf(x)) {
      (x > 0 ? positive_inf_ : negative_inf_) += weight;
      return;
    }
    if (x == 0) return;
    while (weight != 0) {
      int64_t w = std::max<int64_t>(-(1 << 20), std::min<int64_t>(1 << 20, weight));
      weight -= w;
      AddFinite(x, w);
    }
  }
  void Merge(const ExactSum& other) {
    nan_ += other.nan_;
    positive_inf_ += other.positive_inf_;
    negative_inf_ += other.negative_inf_;
    if (other.limbs_.empty()) return;
    auto theirs = other.limbs_;
    theirs.push_back(0);
    Carry(theirs);
    if (limbs_.empty()) low_ = other.low_;
    if (other.low_ < low_) {
      limbs_.insert(limbs_.begin(), size_t(low_ - other.low_), 0);
      low_ = other.low_;
    }
    auto at = size_t(other.low_ - low_);
    if (at + theirs.size() > limbs_.size()) limbs_.resize(at + theirs.size());
    for (size_t i = 0; i < theirs.size(); i++) limbs_[at + i] += theirs[i];
    CountAdds(1);
  }
  /// The exact sum rounded once, to nearest even. 0 for nothing.
  double Value() const {
    if (nan_ > 0 || (positive_inf_ > 0 && negative_inf_ > 0)) return std::numeric_limits<double>::quiet_NaN();
    if (positive_inf_ > 0) return std::numeric_limits<double>::infinity();
    if (negative_inf_ > 0) return -std::numeric_limits<double>::infinity();
    std::vector<int64_t> limbs = limbs_;
    limbs.push_back(0);
    Carry(limbs);
    bool negative = limbs.back() < 0;
    if (negative) {
      for (auto& l : limbs) l = -l;
      Carry(limbs);
    }
    int top = int(limbs.size()) - 1;
    while (top >= 0 && limbs[top] == 0) top--;
    if (top < 0) return 0.0;
    unsigned __int128 bits = 0;
    int low = top - 2;
    for (int i = top; i >= low; i--) bits = bits << 32 | (i >= 0 ? uint64_t(limbs[i]) : 0);
    bool sticky = false;
    for (int i = 0; i < low; i++) sticky |= limbs[i] != 0;
    int exponent = 32 * (low + low_) - kBias;  // of the lowest bit
    int width =
        128 - (uint64_t(bits >> 64) ? __builtin_clzll(uint64_t(bits >> 64)) : 64 + __builtin_clzll(uint64_t(bits)));
    int shift = std::max(width - 53, -1074 - exponent);
    if (shift > 0) {
      unsigned __int128 rest = bits & ((static_cast<unsigned __int128>(1) << shift) - 1);
      unsigned __int128 half = static_cast<unsigned __int128>(1) << (shift - 1);
      bits >>= shift;
      exponent += shift;
      if (rest > half || (rest == half && (sticky || (bits & 1)))) bits++;
    }
    double value = std::ldexp(double(uint64_t(bits)), exponent);
    return negative ? -value : value;
  }

  void Write(std::vector<int64_t>& out) const {
    out.insert(out.end(), {nan_, positive_inf_, negative_inf_, low_, adds_, int64_t(limbs_.size())});
    out.insert(out.end(), limbs_.begin(), limbs_.end());
  }
  /// Number of words read, 0 when they are damaged.
  size_t Read(const int64_t* p, size_t n) {
    if (n < 6 || p[5] < 0 || p[5] > 80 || n < 6 + size_t(p[5])) return 0;
    nan_ = p[0];
    positive_inf_ = p[1];
    negative_inf_ = p[2];
    low_ = int(p[3]);
    adds_ = p[4];
    limbs_.assign(p + 6, p + 6 + p[5]);
    return 6 + size_t(p[5]);
  }

 private:
  static constexpr int kBias = 1088;  ///< limb 0 stands for 2^-1088, below the smallest subnormal

  static void Carry(std::vector<int64_t>& limbs) {
    int64_t carry = 0;
    for (size_t i = 0; i + 1 < limbs.size(); i++) {
      int64_t v = limbs[i] + carry;
      carry = v >> 32;
      limbs[i] = v & 0xffffffff;
    }
    limbs.back() += carry;
  }
  void AddFinite(double x, int64_t weight) {
    int exponent;
    double fraction = std::frexp(std::fabs(x), &exponent);
    auto mantissa = uint64_t(std::ldexp(fraction, 53));
    int bit = exponent - 53 + kBias;
    int limb = bit >> 5;
    auto wide = static_cast<unsigned __int128>(mantissa) << (bit & 31);
    if (limbs_.empty()) low_ = limb;
    if (limb < low_) {
      limbs_.insert(limbs_.begin(), size_t(low_ - limb), 0);
      low_ = limb;
    }
    if (size_t(limb - low_ + 4) > limbs_.size()) limbs_.resize(size_t(limb - low_ + 4));
    if (x < 0) weight = -weight;
    for (int i = 0; i < 3; i++)
      limbs_[size_t(limb - low_ + i)] += int64_t(uint64_t(wide >> (32 * i)) & 0xffffffff) * weight;
    CountAdds(weight < 0 ? -weight : weight);
  }
  /// A limb of 32 bits has room for 2^30 additions before carries must move on.
  void CountAdds(int64_t n) {
    adds_ += n;
    if (adds_ > (1 << 30)) {
      limbs_.push_back(0);
      Carry(limbs_);
      while (limbs_.size() > 1 && limbs_.back() == 0) limbs_.pop_back();
      if (limbs_.size() > 1 && limbs_.back() == -1) {  // a sign alone
        limbs_.pop_back();
        limbs_.back() -= int64_t{1} << 32;
      }
      adds_ = 0;
    }
  }

  int low_ = 0;
  int64_t adds_ = 0;
  int64_t nan_ = 0, positive_inf_ = 0, negative_inf_ = 0;
  std::vector<int64_t> limbs_;
};

}  // namespace tidewater

#include "tidewater/sources/postgres/row_writer.h"

namespace tidewater::postgres {
using duckdb::FlatVector;

void RowWriter::Bind(DataChunk& chunk) {
  chunk_ = &chunk;
  data_.clear();
  valid_.clear();
  nested_.clear();
  list_.clear();
  text_.clear();
  for (auto& v : chunk.data) {
    data_.push_back(FlatVector::GetData(v));
    valid_.push_back(&FlatVector::Validity(v));
    nested_.push_back(v.GetType().IsNested());
    list_.push_back(v.GetType().InternalType() == duckdb::PhysicalType::LIST);
    text_.push_back(v.GetType().InternalType() == duckdb::PhysicalType::VARCHAR);
  }
}

void AppendKey(const DataChunk& chunk, duckdb::idx_t row, const std::vector<uint32_t>& key, std::string& out) {
  for (auto c : key) {
    auto& v = chunk.data[c];
    if (!FlatVector::Validity(v).RowIsValid(row)) {
      out += '\0';
      continue;
    }
    out += '\1';
    auto physical = v.GetType().InternalType();
    if (physical == duckdb::PhysicalType::VARCHAR) {
      auto& s = FlatVector::GetData<duckdb::string_t>(v)[row];
      uint32_t n = uint32_t(s.GetSize());
      out.append(reinterpret_cast<const char*>(&n), sizeof n);
      out.append(s.GetData(), n);
    } else if (duckdb::TypeIsConstantSize(physical)) {
      auto width = duckdb::GetTypeIdSize(physical);
      out.append(reinterpret_cast<const char*>(FlatVector::GetData(const_cast<duckdb::Vector&>(v))) + row * width,
                 width);
    } else {
      auto s = v.GetValue(row).ToString();
      uint32_t n = uint32_t(s.size());
      out.append(reinterpret_cast<const char*>(&n), sizeof n);
      out += s;
    }
  }
}

std::string KeyText(const DataChunk& chunk, duckdb::idx_t row, const std::vector<uint32_t>& key) {
  std::string out;
  for (auto c : key) out += (out.empty() ? "" : ", ") + chunk.data[c].GetValue(row).ToString();
  return key.size() == 1 ? out : "(" + out + ")";
}

std::vector<std::string> KeyForUpstream(const DataChunk& chunk, duckdb::idx_t row, const std::vector<uint32_t>& key) {
  std::vector<std::string> out;
  for (auto c : key) {
    auto value = chunk.data[c].GetValue(row);
    if (value.type().id() == duckdb::LogicalTypeId::BLOB) {
      std::string hex = "\\x";
      for (char b : duckdb::StringValue::Get(value)) hex += fmt::format("{:02x}", uint8_t(b));
      out.push_back(hex);
    } else {
      out.push_back(value.ToString());
    }
  }
  return out;
}

}  // namespace tidewater::postgres

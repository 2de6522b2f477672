#include "tidewater/base/secret.h"
#include <algorithm>

namespace tidewater {
bool IsSecretOption(const std::string& option) {
  std::string name = option;
  std::transform(name.begin(), name.end(), name.begin(), ::tolower);
  for (const char* word : {"password", "secret", "token", "credential", "access.key", "access_key", "private"})
    if (name.find(word) != std::string::npos) return true;
  return false;
}
}  // namespace tidewater

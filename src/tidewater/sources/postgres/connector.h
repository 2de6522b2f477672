// The connector 'postgres-cdc'.
#pragma once
#include "tidewater/sources/api/source.h"

namespace tidewater {
SourceConnector PostgresCdcConnector();
}

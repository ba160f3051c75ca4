#include "rule.h"

#include <string.h>

bool is_same(const uint8_t *one, size_t one_len, const uint8_t *other, size_t other_len) {
    return one_len == other_len && memcmp(one, other, one_len) == 0;
}

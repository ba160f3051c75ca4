#include "limiter.h"

bool is_over(int64_t count, uint64_t limit) {
    return count > 0 && (uint64_t)count > limit;
}

bool parse_number(const uint8_t *text, size_t len, uint64_t max, uint64_t *number) {
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
        // Checked at each digit, so that it cannot go round.
        if (value > max) return false;
    }
    *number = value;
    return len > 0 && value > 0;
}

// What decides, without the contract: tested as a native program.
#ifndef LIMITER_H
#define LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Whether an event is one too many: the first `limit` of a window pass.
bool is_over(int64_t count, uint64_t limit);

// Reads a positive decimal number of at most `max`. False when it is none.
bool parse_number(const uint8_t *text, size_t len, uint64_t max, uint64_t *number);

#endif

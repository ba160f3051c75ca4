// What decides, without the contract: tested as a native program.
#ifndef RULE_H
#define RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Whether two texts are the same.
bool is_same(const uint8_t *one, size_t one_len, const uint8_t *other, size_t other_len);

#endif

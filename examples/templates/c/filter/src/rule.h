// What decides, without the contract: tested as a native program.
#ifndef RULE_H
#define RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A text that somebody else keeps.
struct span {
    const uint8_t *start;
    size_t len;
};

// Whether events of this service pass.
bool is_wanted(struct span service, const struct span *services, size_t n_services);

#endif

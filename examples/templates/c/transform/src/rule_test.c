// Run by `make unit`, as a native program.
#include <stdio.h>

#include "rule.h"

int main(void) {
    const uint8_t *team = (const uint8_t *)"team", *tier = (const uint8_t *)"tier";
    const bool is_right = is_same(team, 4, team, 4) && !is_same(team, 4, team, 3) && !is_same(team, 4, tier, 4);
    puts(is_right ? "rule: ok" : "FAILED: names are compared as a whole");
    return !is_right;
}

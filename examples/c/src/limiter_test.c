// Run by `make unit`, as a native program.
#include <stdio.h>
#include <string.h>

#include "limiter.h"

static int failures = 0;

static void check(bool is_right, const char *what) {
    if (!is_right) {
        fprintf(stderr, "FAILED: %s\n", what);
        failures++;
    }
}

static bool parses(const char *text, uint64_t wanted) {
    uint64_t number = 0;
    return parse_number((const uint8_t *)text, strlen(text), 86400, &number) && number == wanted;
}

static bool is_refused(const char *text) {
    uint64_t number = 0;
    return !parse_number((const uint8_t *)text, strlen(text), 86400, &number);
}

int main(void) {
    check(!is_over(1, 2) && !is_over(2, 2), "as many as are allowed pass");
    check(is_over(3, 2), "one more does not");
    check(!is_over(-1, 2), "a count below 0 is none");
    check(parses("1", 1) && parses("60", 60) && parses("86400", 86400), "numbers");
    check(is_refused("0") && is_refused(""), "nothing is no limit");
    check(is_refused("86401") && is_refused("18446744073709551617"), "too large");
    check(is_refused("1.5") && is_refused("-1") && is_refused("ten"), "other texts");
    if (failures == 0) puts("limiter: ok");
    return failures != 0;
}

// Run by `make unit`, as a native program.
#include <stdio.h>
#include <string.h>

#include "rule.h"

static struct span span(const char *text) {
    return (struct span){(const uint8_t *)text, strlen(text)};
}

int main(void) {
    const struct span services[] = {span("carts"), span("orders")};
    const bool is_right = is_wanted(span("orders"), services, 2) && !is_wanted(span("Orders"), services, 2) &&
                          !is_wanted(span("order"), services, 2) && !is_wanted(span(""), services, 2) &&
                          !is_wanted(span("carts"), services, 0);
    puts(is_right ? "rule: ok" : "FAILED: only events of wanted services pass");
    return !is_right;
}

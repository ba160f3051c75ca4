#include "rule.h"

#include <string.h>

bool is_wanted(struct span service, const struct span *services, size_t n_services) {
    for (size_t i = 0; i < n_services; i++) {
        if (services[i].len == service.len && memcmp(services[i].start, service.start, service.len) == 0) return true;
    }
    return false;
}

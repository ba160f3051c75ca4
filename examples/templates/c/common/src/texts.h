// Texts of the contract: who owns them, and how they are compared.
#ifndef TEXTS_H
#define TEXTS_H

#include <stdbool.h>
#include <string.h>

#include "{{hook}}_plugin.h"

typedef {{hook}}_plugin_string_t text_t;

// For an argument of the host, which only looks at it.
static inline text_t lent(const char *text) {
    return (text_t){(uint8_t *)text, strlen(text)};
}

// To return: it is freed after the host has read it, so it has to be a copy.
static inline text_t copy(const char *text) {
    text_t made;
    {{hook}}_plugin_string_dup(&made, text);
    return made;
}

#endif

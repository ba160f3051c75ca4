// A transform: changes events, splits or answers them.
//
// This file carries values between the contract and rule.c, which decides. The functions at the end free what the host has
// handed over; above them nobody need think of it. An event that is returned is not freed: it is the host's again, and so
// is everything in it.

#include <stdlib.h>

#include "rule.h"
#include "texts.h"
#include "transform_plugin.h"

typedef exports_keptn_distributor_lifecycle_descriptor_t descriptor_t;
typedef exports_keptn_distributor_lifecycle_list_config_problem_t problems_t;
typedef exports_keptn_distributor_transform_cloud_event_t event_t;
typedef exports_keptn_distributor_transform_event_context_t context_t;
typedef exports_keptn_distributor_transform_emission_t emission_t;
typedef exports_keptn_distributor_transform_outcome_t outcome_t;
typedef exports_keptn_distributor_transform_failure_t failure_t;
typedef keptn_distributor_types_extension_t extension_t;

static const char SCHEMA[] = {
#embed "../config-schema.json"
    , '\0'};

// Set by `configure`, which runs before the first event.
static text_t extension_name, extension_value;

static void describe(descriptor_t *descriptor) {
    descriptor->name = copy("{{name}}");
    descriptor->version = copy("0.1.0");
    descriptor->description = copy("What {{name}} does");
    descriptor->config_schema = copy(SCHEMA);
    // Empty: events of all types.
    descriptor->event_types.ptr = NULL;
    descriptor->event_types.len = 0;
    // Extensions are optional attributes. …_EVENT_PARTS_DATA asks for the data as well; what is not asked for is not
    // there, and stays with the event.
    descriptor->reads = EXPORTS_KEPTN_DISTRIBUTOR_LIFECYCLE_EVENT_PARTS_OPTIONAL_ATTRIBUTES;
}

static void read_text(const char *key, text_t *value) {
    text_t name = lent(key);
    transform_plugin_string_free(value);
    if (!keptn_distributor_config_get(&name, value)) *value = copy("");
}

static text_t copy_of(text_t text) {
    text_t made;
    transform_plugin_string_dup_n(&made, (const char *)text.ptr, text.len);
    return made;
}

static bool has_extension(const event_t *event) {
    for (size_t i = 0; i < event->extensions.len; i++) {
        const text_t name = event->extensions.ptr[i].name;
        if (is_same(name.ptr, name.len, extension_name.ptr, extension_name.len)) return true;
    }
    return false;
}

// Keeps the event, or replaces it by itself with the extension. Says whether the event is still ours to free.
static bool apply(event_t *event, outcome_t *outcome) {
    if (has_extension(event)) {
        outcome->tag = EXPORTS_KEPTN_DISTRIBUTOR_TRANSFORM_OUTCOME_KEEP;
        return true;
    }
    const size_t n = event->extensions.len;
    extension_t *extensions = realloc(event->extensions.ptr, (n + 1) * sizeof *extensions);
    emission_t *emission = malloc(sizeof *emission);
    // Out of memory: the host sees a trap, and goes on with another instance.
    if (extensions == NULL || emission == NULL) abort();
    extensions[n].name = copy_of(extension_name);
    extensions[n].value.tag = KEPTN_DISTRIBUTOR_TYPES_ATTRIBUTE_VALUE_TEXT;
    extensions[n].value.val.text = copy_of(extension_value);
    event->extensions.ptr = extensions;
    event->extensions.len = n + 1;

    emission->tag = EXPORTS_KEPTN_DISTRIBUTOR_TRANSFORM_EMISSION_FORWARD;
    emission->val.forward = *event;
    outcome->tag = EXPORTS_KEPTN_DISTRIBUTOR_TRANSFORM_OUTCOME_REPLACE;
    outcome->val.replace.ptr = emission;
    outcome->val.replace.len = 1;
    return false;
}

// -- what the host calls; each frees its arguments -------------------------------------------------------------------

void exports_keptn_distributor_lifecycle_describe(descriptor_t *ret) {
    describe(ret);
}

bool exports_keptn_distributor_lifecycle_configure(text_t *config, problems_t *err) {
    (void)err; // to return problems: fill it and return false
    transform_plugin_string_free(config);
    // The host has checked the configuration against the schema.
    read_text("extension", &extension_name);
    read_text("value", &extension_value);
    return true;
}

bool exports_keptn_distributor_transform_apply(event_t *event, context_t *context, outcome_t *ret, failure_t *err) {
    (void)err; // to fail: fill it and return false
    if (apply(event, ret)) exports_keptn_distributor_transform_cloud_event_free(event);
    exports_keptn_distributor_transform_event_context_free(context);
    return true;
}

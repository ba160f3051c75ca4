// Lets through so many events of a service in a time and drops the others. What was counted is kept by the host, so it
// is the same in all instances of the plugin and goes on when the plugin is replaced. Needs the grant `state`.
//
// The hooks at the end free what the host has handed over; above them nobody need think of it.

#include <stdlib.h>
#include <string.h>

#include "filter_plugin.h"
#include "limiter.h"

typedef filter_plugin_string_t text_t;
typedef exports_keptn_distributor_filter_cloud_event_t event_t;
typedef exports_keptn_distributor_filter_event_context_t context_t;
typedef exports_keptn_distributor_filter_verdict_t verdict_t;
typedef exports_keptn_distributor_filter_failure_t failure_t;

static const char NAME[] = "rate-limit";
static const char VERSION[] = "1.0.0";
static const char DESCRIPTION[] = "Lets through so many events of a service in a time";
static const char SCHEMA[] = {
#embed "../config-schema.json"
    , '\0'};

#define MAX_LIMIT 1000000000
#define MAX_SECONDS 86400

// Set by `configure`, which runs before the first event.
static uint64_t limit;
static uint64_t window_ms;

// A text for an argument of the host, which only looks at it.
static text_t lent(const char *text) {
    return (text_t){(uint8_t *)text, strlen(text)};
}

// A text to return: it is freed after the host has read it, so it has to be a copy.
static text_t copy(const char *text) {
    text_t made;
    filter_plugin_string_dup(&made, text);
    return made;
}

static bool read_number(const char *key, uint64_t max, uint64_t *number) {
    text_t name = lent(key), value;
    if (!keptn_distributor_config_get(&name, &value)) return false;
    bool is_read = parse_number(value.ptr, value.len, max, number);
    filter_plugin_string_free(&value);
    return is_read;
}

static void describe(exports_keptn_distributor_lifecycle_descriptor_t *descriptor) {
    descriptor->name = copy(NAME);
    descriptor->version = copy(VERSION);
    descriptor->description = copy(DESCRIPTION);
    descriptor->config_schema = copy(SCHEMA);
    descriptor->event_types.ptr = NULL;
    descriptor->event_types.len = 0;
    descriptor->reads = 0; // the context is enough
}

static bool evaluate(const context_t *context, verdict_t *verdict, failure_t *failure) {
    verdict->tag = EXPORTS_KEPTN_DISTRIBUTOR_FILTER_VERDICT_PASS;
    // Sent again by the stream: it has been counted when it came first, and was not dropped.
    if (context->receipt > 1) return true;

    text_t key = context->service.is_some ? context->service.val : lent("");
    filter_plugin_list_u8_t zero = {(uint8_t *)"0", 1};
    keptn_distributor_state_error_t error;
    bool is_first;
    int64_t count;
    // The entry ends with its window. `increment` leaves its end as it is.
    if (!keptn_distributor_state_set_if_absent(&key, &zero, &window_ms, &is_first, &error) ||
        !keptn_distributor_state_increment(&key, 1, NULL, &count, &error)) {
        bool is_denied = error.tag == KEPTN_DISTRIBUTOR_STATE_ERROR_DENIED;
        failure->tag = KEPTN_DISTRIBUTOR_TYPES_FAILURE_PERMANENT;
        failure->val.permanent = copy(is_denied ? "cannot count: give it `grants = [\"state\"]`"
                                                : "cannot count: its state is full of services");
        return false;
    }
    if (is_over(count, limit)) {
        text_t name = lent("events_over_limit");
        keptn_distributor_metrics_add(&name, 1);
        verdict->tag = EXPORTS_KEPTN_DISTRIBUTOR_FILTER_VERDICT_DROP;
        verdict->val.drop = copy("more events of this service than the limit allows");
    }
    return true;
}

// -- what the host calls; each frees its arguments -------------------------------------------------------------------

void exports_keptn_distributor_lifecycle_describe(exports_keptn_distributor_lifecycle_descriptor_t *ret) {
    describe(ret);
}

bool exports_keptn_distributor_lifecycle_configure(filter_plugin_string_t *config,
                                                   exports_keptn_distributor_lifecycle_list_config_problem_t *err) {
    filter_plugin_string_free(config); // read key by key instead
    const bool is_limit_read = read_number("limit", MAX_LIMIT, &limit);
    uint64_t seconds = 0;
    const bool is_window_read = read_number("seconds", MAX_SECONDS, &seconds);
    window_ms = seconds * 1000;
    if (is_limit_read && is_window_read) return true;

    err->ptr = calloc(2, sizeof *err->ptr);
    err->len = 0;
    if (!is_limit_read) {
        err->ptr[err->len].pointer = copy("/limit");
        err->ptr[err->len++].message = copy("is no whole number from 1 to 1000000000");
    }
    if (!is_window_read) {
        err->ptr[err->len].pointer = copy("/seconds");
        err->ptr[err->len++].message = copy("is no whole number from 1 to 86400");
    }
    return false;
}

bool exports_keptn_distributor_filter_evaluate(event_t *event, context_t *context, verdict_t *ret, failure_t *err) {
    bool is_ok = evaluate(context, ret, err);
    exports_keptn_distributor_filter_cloud_event_free(event);
    exports_keptn_distributor_filter_event_context_free(context);
    return is_ok;
}

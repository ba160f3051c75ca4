// A filter: decides which events go on.
//
// This file carries values between the contract and rule.c, which decides. The functions at the end free what the host has
// handed over; above them nobody need think of it.

#include <stdlib.h>

#include "filter_plugin.h"
#include "rule.h"
#include "texts.h"

typedef exports_keptn_distributor_lifecycle_descriptor_t descriptor_t;
typedef exports_keptn_distributor_lifecycle_list_config_problem_t problems_t;
typedef exports_keptn_distributor_filter_cloud_event_t event_t;
typedef exports_keptn_distributor_filter_event_context_t context_t;
typedef exports_keptn_distributor_filter_verdict_t verdict_t;
typedef exports_keptn_distributor_filter_failure_t failure_t;

static const char SCHEMA[] = {
#embed "../config-schema.json"
    , '\0'};

// Set by `configure`, which runs before the first event.
static filter_plugin_list_string_t services;

static void describe(descriptor_t *descriptor) {
    descriptor->name = copy("{{name}}");
    descriptor->version = copy("0.1.0");
    descriptor->description = copy("What {{name}} does");
    descriptor->config_schema = copy(SCHEMA);
    // Empty: events of all types.
    descriptor->event_types.ptr = NULL;
    descriptor->event_types.len = 0;
    // The context is enough. EXPORTS_KEPTN_DISTRIBUTOR_LIFECYCLE_EVENT_PARTS_DATA asks for the data as well,
    // …_OPTIONAL_ATTRIBUTES for extensions and the like; what is not asked for is not there.
    descriptor->reads = 0;
}

static void configure(void) {
    // The host has checked the configuration against the schema.
    text_t key = lent("services");
    filter_plugin_list_string_free(&services);
    keptn_distributor_config_get_list(&key, &services);
}

static void evaluate(const context_t *context, verdict_t *verdict) {
    // A text of the contract and a span are the same.
    static_assert(sizeof(struct span) == sizeof(text_t));
    const struct span service = {context->service.val.ptr, context->service.val.len};
    const bool is_decoded = context->service.is_some;
    if (is_decoded && is_wanted(service, (const struct span *)services.ptr, services.len)) {
        verdict->tag = EXPORTS_KEPTN_DISTRIBUTOR_FILTER_VERDICT_PASS;
    } else {
        verdict->tag = EXPORTS_KEPTN_DISTRIBUTOR_FILTER_VERDICT_DROP;
        verdict->val.drop = copy("another service");
    }
}

// -- what the host calls; each frees its arguments -------------------------------------------------------------------

void exports_keptn_distributor_lifecycle_describe(descriptor_t *ret) {
    describe(ret);
}

bool exports_keptn_distributor_lifecycle_configure(text_t *config, problems_t *err) {
    (void)err; // to return problems: fill it and return false
    filter_plugin_string_free(config);
    configure();
    return true;
}

bool exports_keptn_distributor_filter_evaluate(event_t *event, context_t *context, verdict_t *ret, failure_t *err) {
    (void)err; // to fail: fill it and return false
    evaluate(context, ret);
    exports_keptn_distributor_filter_cloud_event_free(event);
    exports_keptn_distributor_filter_event_context_free(context);
    return true;
}

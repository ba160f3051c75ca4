// Package export_keptn_distributor_filter is called by the host for each event. The generated code asks for it by this
// name.
package export_keptn_distributor_filter

import (
	witTypes "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/export_keptn_distributor_lifecycle"
	filter "wit_component/keptn_distributor_filter"
)

// Evaluate passes events with the label.
func Evaluate(_ filter.CloudEvent, context filter.EventContext) witTypes.Result[filter.Verdict, filter.Failure] {
	ofEvent := make(map[string]string, len(context.Labels))
	for _, label := range context.Labels {
		ofEvent[label.F0] = label.F1
	}
	verdict := filter.MakeVerdictPass()
	if missing, isMissing := export_keptn_distributor_lifecycle.Rule.Missing(ofEvent); isMissing {
		verdict = filter.MakeVerdictDrop(missing)
	}
	return witTypes.Ok[filter.Verdict, filter.Failure](verdict)
}

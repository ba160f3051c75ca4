// Package export_keptn_distributor_filter is a filter: it decides which events go on. The generated code asks for it by
// this name.
package export_keptn_distributor_filter

import (
	witTypes "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/export_keptn_distributor_lifecycle"
	filter "wit_component/keptn_distributor_filter"
)

// Evaluate is called for each event.
func Evaluate(_ filter.CloudEvent, context filter.EventContext) witTypes.Result[filter.Verdict, filter.Failure] {
	// There is no service where the data cannot be decoded.
	service := context.Service
	if service.IsSome() && export_keptn_distributor_lifecycle.Rule.IsWanted(service.Some()) {
		return witTypes.Ok[filter.Verdict, filter.Failure](filter.MakeVerdictPass())
	}
	return witTypes.Ok[filter.Verdict, filter.Failure](filter.MakeVerdictDrop("another service"))
}

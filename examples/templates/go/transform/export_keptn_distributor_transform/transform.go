// Package export_keptn_distributor_transform is a transform: it changes events, splits or answers them. The generated code
// asks for it by this name.
package export_keptn_distributor_transform

import (
	witTypes "go.bytecodealliance.org/pkg/wit/types"
	"wit_component/export_keptn_distributor_lifecycle"
	transform "wit_component/keptn_distributor_transform"
	types "wit_component/keptn_distributor_types"
)

// Apply is called for each event.
func Apply(event transform.CloudEvent, _ transform.EventContext) witTypes.Result[transform.Outcome, transform.Failure] {
	rule := export_keptn_distributor_lifecycle.Rule
	names := make([]string, len(event.Extensions))
	for i, extension := range event.Extensions {
		names[i] = extension.Name
	}
	if !rule.IsMissingAmong(names) {
		return witTypes.Ok[transform.Outcome, transform.Failure](transform.MakeOutcomeKeep())
	}
	extension := types.Extension{Name: rule.Extension, Value: types.MakeAttributeValueText(rule.Value)}
	event.Extensions = append(event.Extensions, extension)
	emissions := []transform.Emission{transform.MakeEmissionForward(event)}
	return witTypes.Ok[transform.Outcome, transform.Failure](transform.MakeOutcomeReplace(emissions))
}

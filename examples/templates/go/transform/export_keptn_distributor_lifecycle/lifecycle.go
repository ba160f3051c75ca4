// Package export_keptn_distributor_lifecycle is called by the host before the first event. The generated code asks for it
// by this name.
package export_keptn_distributor_lifecycle

import (
	witTypes "go.bytecodealliance.org/pkg/wit/types"
	config "wit_component/keptn_distributor_config"
	lifecycle "wit_component/keptn_distributor_lifecycle"
	"wit_component/rule"
)

// Schema is config-schema.json.
var Schema string

// Rule is set by Configure, which runs before the first event.
var Rule rule.Rule

// Describe says who this is.
func Describe() lifecycle.Descriptor {
	return lifecycle.Descriptor{
		Name:         "{{name}}",
		Version:      "0.1.0",
		Description:  "What {{name}} does",
		ConfigSchema: Schema,
		// Empty: events of all types.
		EventTypes: nil,
		// Extensions are optional attributes. EventParts_Data asks for the data as well; what is not asked for is not there,
		// and stays with the event.
		Reads: lifecycle.EventParts_OptionalAttributes,
	}
}

// Configure reads the configuration key by key. The host has checked it against the schema.
func Configure(string) witTypes.Result[witTypes.Unit, []lifecycle.ConfigProblem] {
	Rule = rule.Rule{Extension: config.Get("extension").SomeOr(""), Value: config.Get("value").SomeOr("")}
	return witTypes.Ok[witTypes.Unit, []lifecycle.ConfigProblem](witTypes.Unit{})
}

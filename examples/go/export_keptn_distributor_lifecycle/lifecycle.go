// Package export_keptn_distributor_lifecycle is called by the host before the first event. The generated code asks for it
// by this name.
package export_keptn_distributor_lifecycle

import (
	witTypes "go.bytecodealliance.org/pkg/wit/types"
	config "wit_component/keptn_distributor_config"
	lifecycle "wit_component/keptn_distributor_lifecycle"
	"wit_component/labels"
)

// Schema is config-schema.json.
var Schema string

// Rule is set by Configure.
var Rule labels.Rule

// Describe says who this is.
func Describe() lifecycle.Descriptor {
	return lifecycle.Descriptor{
		Name:         "label-filter",
		Version:      "1.0.0",
		Description:  "Passes events with a label",
		ConfigSchema: Schema,
		// The context has the labels: nothing else is read.
		Reads: 0,
	}
}

// Configure reads the configuration key by key. The host has checked it against the schema.
func Configure(string) witTypes.Result[witTypes.Unit, []lifecycle.ConfigProblem] {
	Rule = labels.Rule{Label: config.Get("label").SomeOr(""), Values: config.GetList("values")}
	return witTypes.Ok[witTypes.Unit, []lifecycle.ConfigProblem](witTypes.Unit{})
}

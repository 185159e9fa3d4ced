package sdk

import "context"

// Kind says which of the three interfaces a plugin implements.
type Kind string

// The kinds of plugins.
const (
	KindExecutor Kind = "executor"
	KindMode     Kind = "mode"
	KindFirewall Kind = "firewall"
)

// Plugin is what every plugin can do. Describe comes first and may come at
// any time; Configure comes once before anything else of the plugin's own
// interface. All methods may be called from several goroutines at once after
// Configure has returned.
type Plugin interface {
	// Describe says what the plugin is. It touches nothing, needs no
	// configuration and answers the same each time.
	Describe() Description

	// Configure takes the values of the described fields; the core has
	// already refused unknown keys, wrong types and missing values. The
	// diagnostics are shown to the operator, each with its field; one of
	// SeverityError refuses the run before any host is touched. An error
	// is for a plugin that could not even look at the values.
	Configure(ctx context.Context, values Values) ([]Diagnostic, error)
}

// Description is what a plugin says of itself.
type Description struct {
	Kind        Kind
	Name        string         // [a-z][a-z0-9-]{0,31}, as in --executor NAME
	Version     string         // the plugin's own version
	SDKVersion  string         // filled in by sdk/plugin
	Summary     string         // one line for `transferpy plugin list`
	Fields      []Field        // what may stand in its section of the configuration
	Environment []string       // names of the only variables that reach the plugin's process
	Executor    ExecutorTraits // for executors only

	// Tools are the programs that the plugin runs on hosts, for `transferpy
	// doctor` to look for: names as in PATH; "a|b" means one of them. What is
	// needed in rare cases only, or by some configurations, is left out.
	Tools []string
}

// FieldType is the type of a configuration field.
type FieldType string

// The types of fields and their text forms.
const (
	TypeString   FieldType = "string"
	TypeBool     FieldType = "bool"     // yes/no, true/false, on/off, 1/0, as configparser takes them
	TypeInt      FieldType = "int"      // decimal
	TypeDuration FieldType = "duration" // Go's form: 90s, 2h
	TypeSize     FieldType = "size"     // bytes; 50M is 50,000,000; 50Mi is 52,428,800
	TypeList     FieldType = "list"     // separated by commas or newlines; repeated -o add up
)

// Field describes one key of a plugin's configuration.
type Field struct {
	Name     string // [a-z][a-z0-9_]{0,31}
	Type     FieldType
	Default  string // in the type's text form; empty: none
	Required bool
	Secret   bool     // read from a file closed to others or a variable; redacted everywhere
	Enum     []string // if not empty, the only values allowed
	Help     string   // one line
}

// Severity of a Diagnostic.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is what a plugin thinks of one of its values. Field may be
// empty when several are meant.
type Diagnostic struct {
	Field    string
	Severity Severity
	Message  string
}

package fields

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of a description.
const (
	maxFields      = 256
	maxEnvironment = 64
	maxTools       = 64
	maxText        = 1 << 10
)

var (
	pluginName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	fieldName    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	toolNames    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}(\|[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}){0,7}$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
)

// ValidName reports whether name can be a plugin's name.
func ValidName(name string) bool { return pluginName.MatchString(name) }

// Validate reports what is wrong with a description, in the author's terms;
// nil if nothing is.
func Validate(d sdk.Description) error {
	kinds := []sdk.Kind{sdk.KindExecutor, sdk.KindMode, sdk.KindFirewall}
	switch {
	case !slices.Contains(kinds, d.Kind):
		return fmt.Errorf("Describe: kind %q is none of executor, mode, firewall", d.Kind)
	case !pluginName.MatchString(d.Name):
		return fmt.Errorf("Describe: the name %q does not match %s", d.Name, pluginName)
	case len(d.Fields) > maxFields:
		return fmt.Errorf("Describe: more than %d fields", maxFields)
	case len(d.Environment) > maxEnvironment:
		return fmt.Errorf("Describe: more than %d environment variables", maxEnvironment)
	case len(d.Tools) > maxTools:
		return fmt.Errorf("Describe: more than %d tools", maxTools)
	case len(d.Summary) > maxText || len(d.Version) > maxText:
		return fmt.Errorf("Describe: summary or version is longer than %d bytes", maxText)
	}
	for _, name := range d.Environment {
		if !variableName.MatchString(name) {
			return fmt.Errorf("Describe: %q is no name of an environment variable", name)
		}
	}
	for _, tool := range d.Tools {
		if !toolNames.MatchString(tool) {
			return fmt.Errorf("Describe: %q is no tool, as NAME or NAME|NAME", tool)
		}
	}
	seen := map[string]bool{}
	for _, f := range d.Fields {
		if err := validateField(f); err != nil {
			return err
		}
		if seen[f.Name] {
			return fmt.Errorf("Describe: field %s is described twice", f.Name)
		}
		seen[f.Name] = true
	}
	return validateTraits(d)
}

func validateField(f sdk.Field) error {
	types := []sdk.FieldType{sdk.TypeString, sdk.TypeBool, sdk.TypeInt, sdk.TypeDuration, sdk.TypeSize, sdk.TypeList}
	switch {
	case !fieldName.MatchString(f.Name):
		return fmt.Errorf("Describe: the field name %q does not match %s", f.Name, fieldName)
	case !slices.Contains(types, f.Type):
		return fmt.Errorf("Describe: field %s has the unknown type %q", f.Name, f.Type)
	case f.Secret && f.Default != "":
		return fmt.Errorf("Describe: the secret field %s has a default", f.Name)
	case f.Required && f.Default != "":
		return fmt.Errorf("Describe: field %s is required and has a default", f.Name)
	}
	if f.Default != "" {
		if _, problem, _ := check(f, nil); problem != "" {
			return fmt.Errorf("Describe: the default of field %s: %s", f.Name, problem)
		}
	}
	return nil
}

func validateTraits(d sdk.Description) error {
	t := d.Executor
	if d.Kind != sdk.KindExecutor {
		if t != (sdk.ExecutorTraits{}) {
			return fmt.Errorf("Describe: a %s has no traits of an executor", d.Kind)
		}
		return nil
	}
	if min(t.MaxCommand, t.MaxStdin, t.MaxOutput, t.MaxHosts, t.MaxCalls) < 0 || min(t.Latency, t.MaxWait, t.PollEvery) < 0 {
		return fmt.Errorf("Describe: a limit of the executor is negative")
	}
	return nil
}

package fields

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// described is a plugin with one field of each kind.
var described = sdk.Description{Kind: sdk.KindExecutor, Name: "ssh", Fields: []sdk.Field{
	{Name: "user", Type: sdk.TypeString},
	{Name: "sudo", Type: sdk.TypeBool, Default: "no"},
	{Name: "port", Type: sdk.TypeInt, Default: "22"},
	{Name: "timeout", Type: sdk.TypeDuration, Default: "1m30s", Help: "how long"},
	{Name: "buffer", Type: sdk.TypeSize},
	{Name: "identity_file", Type: sdk.TypeList},
	{Name: "check", Type: sdk.TypeString, Enum: []string{"yes", "ask"}},
	{Name: "password", Type: sdk.TypeString, Secret: true},
}}

// one describes a plugin with one field.
func one(f sdk.Field) sdk.Description {
	return sdk.Description{Kind: sdk.KindMode, Name: "m", Fields: []sdk.Field{f}}
}

func TestCheckCanonical(t *testing.T) {
	got, mistakes := Check(described, map[string][]string{
		"user": {"first", " last "}, "sudo": {"On"}, "port": {" 2222 "}, "timeout": {"2h"}, "buffer": {"1.5M"},
		"identity_file": {"a, b\n  c,,", "d"}, "check": {"ask"},
	})
	want := sdk.Values{"user": {" last "}, "sudo": {"true"}, "port": {"2222"}, "timeout": {"2h0m0s"}, "buffer": {"1500000"},
		"identity_file": {"a", "b", "c", "d"}, "check": {"ask"}}
	if len(mistakes) > 0 || !reflect.DeepEqual(got.Values, want) {
		t.Errorf("got %q, %v", got.Values, mistakes)
	}
	v := got.Values
	if !v.Bool("sudo") || v.Int("port") != 2222 || v.Duration("timeout") != 2*time.Hour || v.Int("buffer") != 1_500_000 {
		t.Errorf("the accessors do not read %q", v)
	}
	got, mistakes = Check(described, nil)
	want = sdk.Values{"sudo": {"false"}, "port": {"22"}, "timeout": {"1m30s"}}
	if len(mistakes) > 0 || !reflect.DeepEqual(got.Values, want) {
		t.Errorf("defaults: got %q, %v", got.Values, mistakes)
	}
}

func TestCheckMistakes(t *testing.T) {
	for _, test := range []struct {
		d          sdk.Description
		key, value string
		want       string // in the error
	}{
		{described, "identityfile", "x", "ssh.identityfile: no such key (executor ssh) (did you mean identity_file?)"},
		{described, "Timeout", "1s", "did you mean timeout?"},
		{described, "zzzzzzzzzz", "x", "known keys: buffer, check"},
		{sdk.Description{Kind: sdk.KindFirewall, Name: "none"}, "x", "x", "no settings"},
		{described, "sudo", "maybe", `"maybe" is neither yes nor no`},
		{described, "port", "0x10", `"0x10" is no decimal integer`},
		{described, "port", "99999999999999999999", "64 bits"},
		{described, "timeout", "90", `"90" is no duration such as 90s or 2h (executor ssh) (how long; type duration)`},
		{described, "timeout", "-1s", "no duration"},
		{described, "buffer", "50X", "no size"},
		{described, "buffer", "9E99", "no size"},
		{described, "buffer", "99E", "no size"},
		{described, "buffer", "-1", "no size"},
		{described, "buffer", "0.5", "no size"},
		{described, "check", "no", `"no" is not one of yes, ask`},
		{described, "password", "swordfish", "stands in the open"},
		{described, "password", "$swordfish!", "no name of a variable"},
		{described, "password", "$TRANSFERPY_TEST_UNSET", "TRANSFERPY_TEST_UNSET is not set"},
		{described, "password", "@/nonexistent/file", "cannot be opened"},
		{described, "user", strings.Repeat("x", maxValue+1), "longer than"},
		{one(sdk.Field{Name: "need", Type: sdk.TypeString, Required: true}), "need", "", "a value is required"},
		{one(sdk.Field{Name: "need", Type: sdk.TypeList, Required: true}), "need", ", ,", "a value is required"},
	} {
		_, mistakes := Check(test.d, map[string][]string{test.key: {test.value}})
		if len(mistakes) != 1 {
			t.Errorf("%s = %.20q: %d mistakes: %v", test.key, test.value, len(mistakes), mistakes)
			continue
		}
		m := mistakes[0]
		if m.Kind != sdk.KindConfig || !strings.Contains(m.Error(), test.want) {
			t.Errorf("%s = %.20q: got %q, want %q in it", test.key, test.value, m.Error(), test.want)
		}
		if strings.Contains(m.Error(), "swordfish") {
			t.Errorf("the secret is in %q", m.Error())
		}
	}
	if _, mistakes := Check(one(sdk.Field{Name: "need", Type: sdk.TypeInt, Required: true}), nil); len(mistakes) != 1 {
		t.Errorf("a missing value: %v", mistakes)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	t.Setenv("TRANSFERPY_TEST_SECRET", "from the environment")
	for _, test := range []struct{ raw, want, problem string }{
		{file("closed", "swordfish\n", 0o600), "swordfish", ""},
		{file("group", "sword\nfish\r\n", 0o640), "sword\nfish", ""},
		{"$TRANSFERPY_TEST_SECRET", "from the environment", ""},
		{file("open", "x", 0o644), "", "open to others"},
		{file("group-writes", "x", 0o660), "", "open to others"},
		{file("empty", "", 0o600), "", "is empty"},
		{file("large", strings.Repeat("x", maxValue+1), 0o600), "", "larger"},
		{"@" + dir, "", "no regular file"},
	} {
		got, mistakes := Check(described, map[string][]string{"password": {test.raw}})
		if test.problem == "" {
			if len(mistakes) > 0 || got.Values.String("password") != test.want || !slices.Equal(got.Secrets, []string{test.want}) {
				t.Errorf("%s: got %q, %v", test.raw, got.Values.String("password"), mistakes)
			}
			continue
		}
		if len(mistakes) != 1 || !strings.Contains(mistakes[0].Error(), test.problem) {
			t.Errorf("%s: got %v, want %q", test.raw, mistakes, test.problem)
		}
	}
}

func TestValidate(t *testing.T) {
	valid := described
	if err := Validate(valid); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*sdk.Description){
		"kind":              func(d *sdk.Description) { d.Kind = "helper" },
		"name":              func(d *sdk.Description) { d.Name = "../ssh" },
		"field name":        func(d *sdk.Description) { d.Fields[0].Name = "User" },
		"field twice":       func(d *sdk.Description) { d.Fields[1].Name = "user" },
		"type":              func(d *sdk.Description) { d.Fields[0].Type = "float" },
		"default":           func(d *sdk.Description) { d.Fields[2].Default = "many" },
		"default of secret": func(d *sdk.Description) { d.Fields[7].Default = "x" },
		"required default":  func(d *sdk.Description) { d.Fields[1].Required = true },
		"variable":          func(d *sdk.Description) { d.Environment = []string{"A=B"} },
		"negative":          func(d *sdk.Description) { d.Executor.MaxOutput = -1 },
		"traits of a mode": func(d *sdk.Description) {
			d.Kind = sdk.KindMode
			d.Executor.MaxCalls = 1
		},
		"too many fields": func(d *sdk.Description) {
			for i := range maxFields + 1 {
				d.Fields = append(d.Fields, sdk.Field{Name: "f" + strconv.Itoa(i), Type: sdk.TypeString})
			}
		},
	} {
		d := described
		d.Fields = slices.Clone(described.Fields)
		change(&d)
		if Validate(d) == nil {
			t.Errorf("%s: it passes", name)
		}
	}
}

// FuzzCheck holds that whatever is let in is canonical: a second check changes
// nothing, and the accessors read it.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"", "yes", "22", "1h", "50M", "1.5Gi", "a, b", "0.000000001K", "1e9", "١", "\xff", "9223372036854775807", ".", "B", "iB"} {
		f.Add(s)
	}
	types := []sdk.FieldType{sdk.TypeString, sdk.TypeBool, sdk.TypeInt, sdk.TypeDuration, sdk.TypeSize, sdk.TypeList}
	f.Fuzz(func(t *testing.T, s string) {
		for _, typ := range types {
			d := one(sdk.Field{Name: "x", Type: typ})
			first, mistakes := Check(d, map[string][]string{"x": {s}})
			if len(mistakes) > 0 {
				continue
			}
			second, mistakes := Check(d, map[string][]string{"x": {strings.Join(first.Values["x"], ",")}})
			if len(mistakes) > 0 || !slices.Equal(first.Values["x"], second.Values["x"]) {
				t.Fatalf("%s %q: first %q, then %q, %v", typ, s, first.Values, second.Values, mistakes)
			}
			switch typ {
			case sdk.TypeInt, sdk.TypeSize:
				if n := first.Values.Int("x"); strconv.FormatInt(n, 10) != first.Values.String("x") || typ == sdk.TypeSize && n < 0 {
					t.Fatalf("%s %q became %q", typ, s, first.Values)
				}
			case sdk.TypeDuration:
				if first.Values.Duration("x").String() != first.Values.String("x") {
					t.Fatalf("%q became %q", s, first.Values)
				}
			}
		}
	})
}

func TestNearest(t *testing.T) {
	names := []string{"identity_file", "timeout", "user"}
	for s, want := range map[string]string{"identityfile": "identity_file", "timeuot": "timeout", "usr": "user", "USER": "user",
		"completely": "", "": "", strings.Repeat("x", 1000): ""} {
		if got := Nearest(s, names); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", s, got, want)
		}
	}
}

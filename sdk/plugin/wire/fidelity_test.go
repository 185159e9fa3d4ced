package wire

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/transferpy/transferpy/sdk"
)

// fill sets every field of v, however deep, to something that is not its zero
// value and differs from its neighbours; bytes and Raw hold what is not UTF-8.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(1_700_000_000+*n), 123).UTC()))
		return
	case sdk.Raw:
		v.SetString(fmt.Sprintf("raw\xff\x00\n%d", *n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text é %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range 2 {
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value, n)
			v.SetMapIndex(reflect.ValueOf(fmt.Sprintf("key %d", i)), value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic("fill knows no " + v.Kind().String())
	}
}

// carried checks that every field of an S survives the wire, and that its
// zero value does.
func carried[S any, M proto.Message](t *testing.T, to func(S) M, from func(M) S) {
	t.Helper()
	var zero, full S
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n)
	for name, want := range map[string]S{"zero": zero, "full": full} {
		t.Run(fmt.Sprintf("%T-%s", want, name), func(t *testing.T) {
			b, err := proto.Marshal(to(want))
			if err != nil {
				t.Fatal(err)
			}
			m := to(zero).ProtoReflect().New().Interface().(M)
			if err := proto.Unmarshal(b, m); err != nil {
				t.Fatal(err)
			}
			if got := from(m); !reflect.DeepEqual(got, want) {
				t.Errorf("sent and received differ:\n%+v\n%+v", want, got)
			}
		})
	}
}

// TestFidelity carries every value type of sdk. A field that is added to sdk
// and forgotten here makes it fail.
func TestFidelity(t *testing.T) {
	carried(t, descriptionToPB, descriptionFromPB)
	carried(t, diagnosticToPB, diagnosticFromPB)
	carried(t, commandToPB, commandFromPB)
	carried(t, resultToPB, resultFromPB)
	carried(t, fileToPB, fileFromPB)
	carried(t, hostCommandsToPB, hostCommandsFromPB)
	carried(t, hostChangeToPB, hostChangeFromPB)
	carried(t, hostResultsToPB, hostResultsFromPB)
	carried(t, transferToPB, transferFromPB)
	carried(t, questionsToPB, questionsFromPB)
	carried(t, answersToPB, answersFromPB)
	carried(t, findingsToPB, findingsFromPB)
	carried(t, planToPB, planFromPB)
	carried(t, outcomeToPB, outcomeFromPB)
	carried(t, barrierToPB, barrierFromPB)
	carried(t, filterToPB, filterFromPB)
	carried(t, holeToPB, holeFromPB)
	carried(t, ruleToPB, ruleFromPB)
}

func TestValuesFidelity(t *testing.T) {
	want := sdk.Values{"list": {"a", "", "\xff"}, "text": {"x"}}
	if got := valuesFromPB(valuesToPB(want)); !reflect.DeepEqual(got, want) {
		t.Errorf("sent %q, received %q", want, got)
	}
}

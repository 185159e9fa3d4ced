package none

import (
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// TestTouchesNoHost gives no Host at all: any use of it would panic.
func TestTouchesNoHost(t *testing.T) {
	fw, ctx := New(), t.Context()
	if d := fw.Describe(); d.Kind != sdk.KindFirewall || d.Name != "none" {
		t.Errorf("described as %+v", d)
	}
	filters, err := fw.Detect(ctx, []string{"db1", "db2"}, nil)
	if err != nil || len(filters) != 2 || filters[1].Host != "db2" || filters[1].Filters || filters[1].Why == "" {
		t.Errorf("Detect: %+v, %v", filters, err)
	}
	rules, err := fw.Open(ctx, "t1", []sdk.Hole{{Host: "db1", Port: 4400}}, nil)
	if err != nil || len(rules) != 0 {
		t.Errorf("Open: %+v, %v", rules, err)
	}
	if err := fw.Close(ctx, "t1", nil, nil); err != nil {
		t.Errorf("Close: %v", err)
	}
	if rules, err := fw.Sweep(ctx, []string{"db1"}, nil); err != nil || len(rules) != 0 {
		t.Errorf("Sweep: %+v, %v", rules, err)
	}
}

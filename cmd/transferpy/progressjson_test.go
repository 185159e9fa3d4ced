package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/transfer"
)

func TestProgressJSON(t *testing.T) {
	cases := map[string]struct {
		event transfer.Event
		want  string
	}{
		"all known": {transfer.Event{Total: 3_100_000_000, Members: []progress.Member{sample("db2", nil)}}, `{"total":3100000000,"members":[{
			"name":"target-1","host":"db2","path":"/srv","phase":"moving","bytes":1240000000,"checked":0,"total":3100000000,"files":12,"entries":0,
			"wire_bytes":500000000,"rate":112000000,"ratio":2.48,"eta_seconds":16,"age_seconds":1,"held_by":"link","held_by_host":"db2"}]}`},
		"nothing known": {transfer.Event{Total: -1, Members: []progress.Member{{Total: -1, Rate: -1, Left: -1,
			Reading: progress.Reading{Host: "db2", Path: "/s\xff", Status: control.MemberStatus{Name: "target-1", Phase: control.PhasePrepared}}}}}, `{"total":null,"members":[{
			"name":"target-1","host":"db2","path":{"base64":"L3P/"},"phase":"prepared","bytes":0,"checked":0,"total":null,"files":0,"entries":0,
			"wire_bytes":0,"rate":null,"ratio":null,"eta_seconds":null,"age_seconds":null,"held_by":null}]}`},
		"a lower bound": {transfer.Event{Total: 3_000_000_000, AtLeast: true, Members: []progress.Member{sample("db2", func(m *progress.Member) {
			m.AtLeast, m.Left, m.Total, m.Held, m.HeldHost, m.At = true, -1, 3_000_000_000, "", "", noon.Add(-90*time.Second)
		})}}, `{"total":null,"total_at_least":3000000000,"members":[{
			"name":"target-1","host":"db2","path":"/srv","phase":"moving","bytes":1240000000,"checked":0,"total":null,"total_at_least":3000000000,"files":12,"entries":0,
			"wire_bytes":500000000,"rate":112000000,"ratio":2.48,"eta_seconds":null,"age_seconds":90,"held_by":null}]}`},
		"verifying": {transfer.Event{Total: 1_240_000_000, Members: []progress.Member{sample("db2", func(m *progress.Member) {
			m.Status.Phase, m.Status.Checked, m.Done, m.Total, m.Held = control.PhaseVerifying, 620_000_000, 620_000_000, 1_240_000_000, holdup.TargetDisk
		})}}, `{"total":1240000000,"members":[{
			"name":"target-1","host":"db2","path":"/srv","phase":"verifying","bytes":1240000000,"checked":620000000,"total":1240000000,"files":12,"entries":0,
			"wire_bytes":500000000,"rate":112000000,"ratio":2.48,"eta_seconds":16,"age_seconds":1,"held_by":"target-disk","held_by_host":"db2"}]}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			v, stdout, _ := testView(&config.Settings{JSON: true, Progress: "never"})
			c.event.Type, c.event.Time, c.event.Transfer = transfer.EventProgress, noon, "t1"
			v.event(c.event)
			var got, want map[string]any
			if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v", stdout, err)
			}
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			want["v"], want["event"], want["time"], want["transfer_id"] = 1.0, "progress", noon.Format(time.RFC3339), "t1"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

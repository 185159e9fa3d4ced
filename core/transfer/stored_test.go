package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// full is a request in which every field says something.
func full() Request {
	return Request{
		Source: Endpoint{"ssh", "db1", "/srv/a\xff"}, Targets: []Endpoint{{"ssh", "db2", "/srv"}, {"local", "localhost", "/srv"}},
		Mode: "file", Firewall: "none", Port: 4444, Compress: true, Codec: "zstd", CodecLevel: 2, Encrypt: true, Verify: control.VerifyReceived,
		StopSlave: true, Owner: "numeric", LimitRate: 5, SlowTarget: "wait", SlowAsked: true, LimitRead: 6, Nice: 7, DataNetworks: []string{"10.0.0.0/8"},
		DataAddresses: map[string]string{"db2": "10.0.0.2"}, HostFirewalls: map[string]string{"db2": "nftables"},
		RetryFor: time.Minute, ControlLostFor: time.Hour, LinkTimeout: time.Second, KeepPartial: true, ForceLive: true,
		DryRun: true, Reason: "why", Manifest: "/tmp/m", PluginDirs: []string{"/p"},
		PluginConfig: map[string]map[string][]string{"executor/ssh": {"sudo": {"true"}, "password": {"@/root/secret"}}},
	}
}

func TestStoredRequest(t *testing.T) {
	want := full()
	for i, v := 0, reflect.ValueOf(want); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("full says nothing in %s, so that nothing is tested of it", v.Type().Field(i).Name)
		}
	}
	text, err := encodeRequest(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRequest(text)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	tests := []struct{ name, from, to, message string }{
		{"another version", `"v":1`, `"v":2`, "version 2"},
		{"no version", `"v":1,`, ``, "version 0"},
		{"a field of a later version", `"port":4444`, `"port":4444,"ports":2`, "unknown field"},
		{"no target", `"targets":[{"executor":"ssh","host":"db2","path":"/srv"},{"executor":"local","host":"localhost","path":"/srv"}]`, `"targets":[]`, "no target"},
		{"no host", `"host":"db2"`, `"host":""`, "host, path and executor"},
		{"cut short", `"mode"`, `"mode`, "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(string(text), tt.from, tt.to, 1)
			if bad == string(text) {
				t.Fatalf("%s is not in %s", tt.from, text)
			}
			if _, err := DecodeRequest(json.RawMessage(bad)); !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := DecodeRequest(append(text, "{}"...)); err == nil {
		t.Error("what follows it was overlooked")
	}
	if _, err := DecodeRequest(nil); err == nil {
		t.Error("nothing was taken for a request")
	}
}

// FuzzDecodeRequest: what is understood is the same when it was stored again.
func FuzzDecodeRequest(f *testing.F) {
	text, err := encodeRequest(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	f.Add([]byte(`{"v":1,"source":{"executor":"x","host":"a","path":"/"},"targets":[{"executor":"x","host":"b","path":{"base64":"/w=="}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := DecodeRequest(data)
		if err != nil {
			return
		}
		again, err := encodeRequest(q)
		if err != nil {
			t.Fatal(err)
		}
		q2, err := DecodeRequest(again)
		if err != nil {
			t.Fatal(err)
		}
		if third, err := encodeRequest(q2); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%v\nfirst  %s\nsecond %s", err, again, third)
		}
	})
}

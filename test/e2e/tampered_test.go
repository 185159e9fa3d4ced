package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
)

// TestInjector: somebody on the wire alters bytes of full packets now and then,
// beneath TCP, so that it notices nothing. With and without encryption nothing
// altered is published: the copy is right, or there is none and the words say
// why.
func TestInjector(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	if _, err := r.Run(t.Context(), "db2", "nft", "--version"); err != nil {
		t.Skip("nftables is not installed: apt-get install nftables")
	}
	for _, encrypt := range []string{"--no-encrypt", "--encrypt"} {
		t.Run(encrypt, func(t *testing.T) {
			r := &rig{Lab: r.Lab, t: t}
			// 32 bits, 800 bits after the header of TCP begins: data. Veth does not
			// check the sum.
			r.sh("db2", `nft add table inet forge
nft add chain inet forge in '{ type filter hook prerouting priority -300; }'
nft add rule inet forge in tcp dport 4400-4499 meta length gt 1000 limit rate 1/second burst 1 packets counter @th,800,32 set 0x666f7267`)
			defer r.sh("db2", "nft delete table inet forge")
			res := r.start(nil, encrypt, "--no-compress", "--retry-for", "4s", "--limit-rate", "10M", "db1:/srv/data", "db2:/srv/in").wait()
			t.Logf("exit code %d", res.code)
			if n := r.altered(); n == 0 {
				t.Error("nothing was altered")
			}
			copied := r.sh("db2", "test -e /srv/in/data && echo there || true") != ""
			switch {
			case copied != (res.code == 0):
				t.Errorf("exit code %d, and the copy is there: %v", res.code, copied)
			case copied:
				r.same("db1", "/srv/data", "db2", "/srv/in/data")
				r.sh("db2", "rm -r /srv/in/data")
			case !regexp.MustCompile(`altered|signature|bad record MAC|broken|heard|lost|reached`).MatchString(res.said()):
				t.Errorf("it does not say why:\n%s", res.said())
			}
			r.clean()
		})
	}
}

// altered is how many packets the injector has altered.
func (r *rig) altered() int {
	r.t.Helper()
	m := regexp.MustCompile(`counter packets (\d+)`).FindStringSubmatch(r.sh("db2", "nft list table inet forge"))
	if m == nil {
		r.t.Fatal(fmt.Errorf("the rule has no counter"))
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

package transfer

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAgentEndsBeforeTheCommit: an agent that has given up by the time it is to
// publish has no copy, and nobody waits for one; the others have theirs.
func TestAgentEndsBeforeTheCommit(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, "a", "b")
				tr.req.KeepPartial = keep
				tr.site.hosts["b"].givesUp = true
				began := time.Now()
				r := tr.run(t)
				if r.ExitCode != ExitFailed || r.Targets[0].ExitCode != 0 || r.Targets[1].ExitCode != ExitFailed || !strings.Contains(r.Targets[1].Err.Error(), "has ended") {
					t.Errorf("exit %d, targets %+v", r.ExitCode, r.Targets)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

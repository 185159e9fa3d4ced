package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/agentbin"
	"github.com/transferpy/transferpy/sdk"
)

// release is set by the linker (make build) to what git describes.
var release string

// version is this program's version: the release it was built as, else the
// module's version, else "unreleased".
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unreleased"
}

// newVersion is `transferpy version`.
func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version, the SDK's and the embedded agents",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			agents, err := agentbin.All()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "transferpy %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			fmt.Fprintf(a.stdout, "sdk        %s (plugin wire %d)\n", sdk.Version, sdk.ProtocolMajor)
			if len(agents) == 0 {
				fmt.Fprintln(a.stdout, "agents     none embedded: only executor local can be served; run `make build`")
			}
			slices.SortFunc(agents, func(x, y agentbin.Agent) int { return strings.Compare(x.Arch, y.Arch) })
			for _, agent := range agents {
				fmt.Fprintf(a.stdout, "agent      linux/%s sha256:%s\n", agent.Arch, agent.Digest)
			}
			return nil
		},
	}
}

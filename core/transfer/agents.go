package transfer

import "github.com/transferpy/transferpy/core/remote"

// Agents finds the agents' binaries to be placed on hosts.
type Agents = remote.Agents

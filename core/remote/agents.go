package remote

// Agents finds the agents' binaries to be placed on hosts. agentbin.Set
// implements it. Safe for concurrent use.
type Agents interface {
	// Digests are the hex SHA-256 of the agents there are, by architecture
	// (GOARCH).
	Digests(local bool) (map[string]string, error)
	// Packed returns the agent with that digest as gzip; large.
	Packed(digest string) ([]byte, error)
}

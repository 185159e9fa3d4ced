package control

// Route asks a host by which of its own addresses its kernel would reach
// others, at every address at which they would be dialled. It needs no agent
// and sends nothing: firewalls are to admit these addresses and no others.
type Route struct {
	To       []RouteTo `json:"to"`
	Networks []string  `json:"networks,omitempty"` // as Settings.DataNetworks
}

// RouteTo is what is known of one of them, as in Member.
type RouteTo struct {
	Member      string   `json:"member"`
	Host        string   `json:"host"`
	DataAddress string   `json:"data_address,omitempty"`
	Addresses   []string `json:"addresses"`
	BootID      string   `json:"boot_id"`
	NetNS       string   `json:"netns"`
}

func (r *Route) validate(c *check) {
	c.count("members", len(r.To), MaxMembers)
	for _, to := range r.To {
		c.id("a member's name", to.Member)
		c.text("a member's host", to.Host, maxName)
		c.text("a member's data address", to.DataAddress, maxName)
		c.addresses(to.Addresses)
		c.text("a member's boot id", to.BootID, maxName)
		c.text("a member's network namespace", to.NetNS, maxName)
	}
	c.networks(r.Networks)
}

// validRoutes checks the answer: own addresses, by member.
func validRoutes(c *check, routes map[string][]string) {
	c.count("routes", len(routes), MaxMembers)
	for name, list := range routes {
		c.id("a member's name", name)
		c.addresses(list)
	}
}

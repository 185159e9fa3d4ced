// Package firewalls holds the firewall plugins to their promises with real
// packet filters on the lab's hosts: a stranger's connection is refused and
// the peer's accepted, before, during and after.
package firewalls

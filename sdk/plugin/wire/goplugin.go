package wire

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/transferpy/transferpy/sdk"
)

// Handshake is what go-plugin compares before it speaks gRPC. The protocol's
// version is that of VersionedPlugins.
var Handshake = goplugin.HandshakeConfig{
	MagicCookieKey:   CookieKey,
	MagicCookieValue: CookieValue,
}

// Served is the plugin set of a plugin's process: one plugin, for each major
// of the protocol that this SDK speaks.
func Served(p sdk.Plugin) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{sdk.ProtocolMajor: {PluginKey: &served{p: p}}}
}

// Wanted is the plugin set of the core. What is dispensed from it is a
// Connection.
func Wanted() map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{sdk.ProtocolMajor: {PluginKey: &wanted{}}}
}

// Connection is an established connection to a plugin's process.
type Connection struct {
	Conn   grpc.ClientConnInterface
	Broker Broker
}

type served struct {
	goplugin.NetRPCUnsupportedPlugin
	p sdk.Plugin
}

// GRPCServer implements goplugin.GRPCPlugin.
func (s *served) GRPCServer(broker *goplugin.GRPCBroker, server *grpc.Server) error {
	return Register(server, s.p, broker.DialWithOptions)
}

// GRPCClient implements goplugin.GRPCPlugin.
func (s *served) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("the plugin's side has no client")
}

type wanted struct {
	goplugin.NetRPCUnsupportedPlugin
}

// GRPCServer implements goplugin.GRPCPlugin.
func (w *wanted) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the core's side serves no plugin")
}

// GRPCClient implements goplugin.GRPCPlugin.
func (w *wanted) GRPCClient(_ context.Context, broker *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return Connection{Conn: conn, Broker: broker}, nil
}

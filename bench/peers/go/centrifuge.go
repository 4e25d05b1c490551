package main

import (
	"context"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

const channel = "energy"

// newCentrifuge is the library that Centrifugo is made of: every client is subscribed by the server
// when it connects, and messages are published to its channel, in the JSON protocol. A write delay
// is what its documentation has for many messages a second: what comes within it goes into one
// message, a line for each. Without one, only what waits already is joined.
func newCentrifuge(delay time.Duration) (http.Handler, func([]byte)) {
	node, err := centrifuge.New(centrifuge.Config{})
	check(err)
	node.OnConnecting(
		func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
			reply := centrifuge.ConnectReply{
				Credentials:   &centrifuge.Credentials{UserID: "bench"},
				Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {}},
			}
			if delay > 0 {
				reply.WriteDelay = delay
				reply.WriteWithTimer = true
				reply.MaxMessagesInFrame = -1
			}
			return reply, nil
		})
	check(node.Run())
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		UseWriteBufferPool: true,
		// Its pings are messages that want an answer; the clients answer those of WebSocket.
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1},
	})
	return handler, func(text []byte) {
		_, err := node.Publish(channel, text)
		check(err)
	}
}

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

const channel = "energy"

// newCentrifuge is the library that Centrifugo is built on: the server subscribes every client when
// it connects, and publishes messages to its channel, in the JSON protocol. Its documentation
// suggests a write delay for many messages a second: messages within it are joined into one, with
// one line for each. Without a delay, only messages that are already waiting are joined.
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
		// Its pings are messages; the clients answer only pings of WebSocket.
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1},
	})
	return handler, func(text []byte) {
		_, err := node.Publish(channel, text)
		check(err)
	}
}

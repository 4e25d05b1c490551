package main

import (
	"log"
	"net/http"
	"sync"

	"github.com/lxzan/gws"
)

// gwsCrowd is gws as its README has it: a Broadcaster, which builds the frame once, called in a
// loop; gws queues it for each client and writes from goroutines that live while a queue does.
type gwsCrowd struct {
	gws.BuiltinEventHandler
	upgrader *gws.Upgrader
	lock     sync.RWMutex
	clients  map[*gws.Conn]struct{}
}

func newGwsCrowd() *gwsCrowd {
	crowd := &gwsCrowd{clients: map[*gws.Conn]struct{}{}}
	crowd.upgrader = gws.NewUpgrader(crowd, &gws.ServerOption{})
	return crowd
}

func (c *gwsCrowd) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	connection, err := c.upgrader.Upgrade(answer, request)
	if err != nil {
		log.Printf("peer: %v", err)
		return
	}
	// In a goroutine of its own, so that the request's memory is freed: its README again.
	go connection.ReadLoop()
}

func (c *gwsCrowd) OnOpen(connection *gws.Conn) {
	// Queued, as the broadcast is: this comes first.
	connection.WriteAsync(gws.OpcodeText, []byte(`{"type":"subscribed"}`), nil)
	c.lock.Lock()
	c.clients[connection] = struct{}{}
	c.lock.Unlock()
}

func (c *gwsCrowd) OnClose(connection *gws.Conn, _ error) {
	c.lock.Lock()
	delete(c.clients, connection)
	c.lock.Unlock()
}

func (c *gwsCrowd) broadcast(text []byte) {
	message := gws.NewBroadcaster(gws.OpcodeText, text)
	defer message.Close()
	c.lock.RLock()
	defer c.lock.RUnlock()
	for connection := range c.clients {
		// Its errors end the connection by themselves.
		_ = message.Broadcast(connection)
	}
}

package main

import (
	"log"
	"net/http"
	"sync"

	"github.com/lxzan/gws"
)

// gwsCrowd is gws as in its README: a Broadcaster, which builds the frame once, called in a loop;
// gws queues it for each client and writes from goroutines that run while the queue is not empty.
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
	// In a separate goroutine, so that the request's memory is freed, as in its README.
	go connection.ReadLoop()
}

func (c *gwsCrowd) OnOpen(connection *gws.Conn) {
	// Queued like the broadcasts, so that it is sent first.
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
		// gws closes the connection itself on errors.
		_ = message.Broadcast(connection)
	}
}

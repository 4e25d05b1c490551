package main

import (
	"log"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// As in gorilla's chat example, a client with more waiting messages is dropped.
const mostWaiting = 256

// crowd is gorilla's chat example: each client has a channel and a writing goroutine. The message
// is a PreparedMessage, which its documentation recommends for sending one to many connections.
type crowd struct {
	upgrader websocket.Upgrader
	lock     sync.RWMutex
	clients  map[chan *websocket.PreparedMessage]struct{}
}

func newCrowd() *crowd {
	return &crowd{
		upgrader: websocket.Upgrader{WriteBufferPool: &sync.Pool{}},
		clients:  map[chan *websocket.PreparedMessage]struct{}{},
	}
}

func (c *crowd) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	connection, err := c.upgrader.Upgrade(answer, request, nil)
	if err != nil {
		log.Printf("peer: %v", err)
		return
	}
	waiting := make(chan *websocket.PreparedMessage, mostWaiting)
	go write(connection, waiting)
	ready, err := websocket.NewPreparedMessage(
		websocket.TextMessage, []byte(`{"type":"subscribed"}`))
	check(err)
	c.lock.Lock()
	waiting <- ready
	c.clients[waiting] = struct{}{}
	c.lock.Unlock()
	for {
		if _, _, err := connection.NextReader(); err != nil {
			break
		}
	}
	c.lock.Lock()
	c.drop(waiting)
	c.lock.Unlock()
}

func write(connection *websocket.Conn, waiting chan *websocket.PreparedMessage) {
	defer connection.Close()
	for message := range waiting {
		if connection.WritePreparedMessage(message) != nil {
			return
		}
	}
}

// drop removes a client; the caller holds the lock.
func (c *crowd) drop(waiting chan *websocket.PreparedMessage) {
	if _, known := c.clients[waiting]; known {
		delete(c.clients, waiting)
		close(waiting)
	}
}

func (c *crowd) broadcast(text []byte) {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	check(err)
	c.lock.Lock()
	defer c.lock.Unlock()
	for waiting := range c.clients {
		select {
		case waiting <- message:
		default:
			c.drop(waiting)
		}
	}
}

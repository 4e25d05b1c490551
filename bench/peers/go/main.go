// Servers in Go that send each line of a feed to all clients as a text message.
//
//	peer gorilla [CERT KEY]
//	peer gws [CERT KEY]
//	peer centrifuge WRITE_DELAY_MS [CERT KEY]
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const mostLineBytes = 1 << 20

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("peer: which one?")
	}
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "gorilla":
		crowd := newCrowd()
		run(crowd, crowd.broadcast, arguments)
	case "gws":
		crowd := newGwsCrowd()
		run(crowd, crowd.broadcast, arguments)
	case "centrifuge":
		delay, err := strconv.Atoi(arguments[0])
		check(err)
		handler, publish := newCentrifuge(time.Duration(delay) * time.Millisecond)
		run(handler, publish, arguments[1:])
	default:
		log.Fatalf("peer: unknown server: %s", os.Args[1])
	}
}

// run serves clients and one feeder at a time on separate ports, which it prints.
func run(handler http.Handler, broadcast func([]byte), files []string) {
	clients, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	feed, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Printf("{\"port\":%d,\"feed\":%d}\n",
		clients.Addr().(*net.TCPAddr).Port, feed.Addr().(*net.TCPAddr).Port)
	go take(feed, broadcast)
	server := &http.Server{Handler: handler}
	if len(files) == 2 {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13}
		// HTTP/2 uses a WebSocket handshake that the clients do not support.
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		check(server.ServeTLS(clients, files[0], files[1]))
	} else {
		check(server.Serve(clients))
	}
}

func take(feed net.Listener, broadcast func([]byte)) {
	for {
		connection, err := feed.Accept()
		check(err)
		lines := bufio.NewScanner(connection)
		lines.Buffer(make([]byte, 0, mostLineBytes), mostLineBytes)
		for lines.Scan() {
			// The scanner reuses its buffer, but clients keep the message for a while.
			broadcast(append([]byte(nil), lines.Bytes()...))
		}
		check(lines.Err())
		connection.Close()
	}
}

func check(err error) {
	if err != nil {
		log.Fatalf("peer: %v", err)
	}
}

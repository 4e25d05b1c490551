"""The demo: a Kafka broker and smart meters that need nothing but this package."""

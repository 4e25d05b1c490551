"""Results of every measurement, as --out writes them."""

from __future__ import annotations

from typing import Any

DELAY = {"mean": 5.25, "p50": 4.0, "p99": 20.5, "max": 31.0}
CORES = {
    "supervisor": 0.01,
    "consumer": 0.02,
    "worker-0": 0.4,
    "worker-1": 0.35,
    "generator-0": 0.5,
    "observer": 0.1,
    "producer": 0.01,
    "broker": 0.05,
}
MEASURED_RATE = {
    "write_ms": DELAY,
    "append_ms": {**DELAY, "mean": 4.75},
    "consumer_share_of_a_core": 0.0712,
    "consumer_us_per_record": 71.2,
}
OURS = {
    "worker_us": 4.0,
    "consumer_us": 0.5,
    "delay_p50_ms": 5.0,
    "delay_p99_ms": 20.0,
    "delay_p100_ms": 30.0,
}
RATIO = {"ratio": 2.25, "ratio_min": 2.0, "ratio_max": 2.5}
PEER = {
    "tls": False,
    "bytes": 440,
    "target": 40_000.0,
    "load": 40_000,
    "us": 9.0,
    "delay_p50_ms": 6.0,
    "delay_p99_ms": 25.0,
    "delay_p100_ms": 40.0,
    "lost": 0,
    "kept_up": True,
    "energyws": OURS,
    "worker": RATIO,
    "service": {**RATIO, "ratio": 2.0},
    "rss_kb_connected": 9.5,
    "rss_kb_used": 12.0,
}
MEMORY = dict.fromkeys(("rss", "pss", "private_dirty", "kernel_slab", "kernel_tcp"), 9000.0)
STEP: dict[str, Any] = {
    "name": "drain replica a",
    "seconds": 62.5,
    "reconnects": 5000,
    "failed": 0,
    "newcomers": 900,
    "newcomers_refused": 2,
    "gaps": 0,
    "duplicates": 0,
    "reorderings": 0,
    "pause_median": 0.5,
    "pause_p99": 0.95,
    "pause_longest": 1.25,
    "connects_each_second": [70, 180, 90],
    "problems": [],
}
HTTP = {"generator_us": 2.0, "delay_p50_ms": 5.0, "delay_p99_ms": 20.0}
ATTACKED: dict[str, Any] = {
    "figures": {
        "calm_p99_ms": 12.0,
        "p99_ms": 13.0,
        "p99_ratio": 1.08,
        "pong_ms": 0.9,
        "pong_worst_ms": 4.0,
        "newcomer_ms": 2.0,
        "newcomer_worst_ms": 30.0,
        "newcomers_out": 0,
        "cores": 0.2,
        "us_each": 70.0,
        "memory_before_mib": 60.2,
        "memory_peak_mib": 61.2,
        "memory_after_mib": 60.3,
        "kernel_before_mib": 1.0,
        "kernel_peak_mib": 2.0,
        "kernel_after_mib": 1.0,
    },
    "attacker": {"closed": 7},
    "broken": [],
    "noticed": [],
    "io_uring": "in use",
}
RESULTS: dict[str, dict[str, Any]] = {
    "attacks": {
        "clients": 20,
        "rate": 20.0,
        "workers": 1,
        "rounds": 1,
        "windows": 3,
        "seconds": 4.0,
        "limits": True,
        "apart": True,
        "revisions": {"this": "abc1234", "other": "1234abc"},
        "attacks": {
            "refused": {
                "this": ATTACKED,
                "other": {**ATTACKED, "broken": ["2 gaps"], "noticed": ["p99 × 91.00"]},
            },
            "chatter": {"this": ATTACKED, "other": {"skipped": ["server.dashboard"]}},
        },
    },
    "curve": {
        "broker": "kafka",
        "points": {
            "1000": {
                "workers": 2,
                "records": 240,
                "delay_ms": {**DELAY, "standard_deviation": 2.0},
                "published_ms": 10,
                "worker_us_per_delivery": 5.1,
                "cores": CORES,
            },
            "3000": {
                "workers": 2,
                "records": 240,
                "delay_ms": {**DELAY, "standard_deviation": 2.0},
                "published_ms": None,
                "worker_us_per_delivery": 5.1,
                "cores": CORES,
            },
        },
    },
    "deflate": {
        "real": {
            "without a network": {
                "message_bytes": 1138.0,
                "shared_us": 30.1,
                "shared_bytes": 520.0,
                "each_us": 12.0,
                "each_bytes": 90.0,
                "each_kib_per_client": 40.0,
            },
            "20/s, shared": {
                "us_per_delivery": 5.0,
                "consumer_us_per_record": 300.0,
                "bytes_per_delivery": 524.0,
            },
            "20/s, websockets each": {"us_per_delivery": 30.0, "bytes_per_delivery": 94.0},
            "20/s, CPU of shared / plain": [0.9, 0.95, 1.0],
        }
    },
    "delay": {
        "clients": 100,
        "delay": {
            "kafka": {"as shipped": {"idle_share_of_a_core": 0.004, "1000/s": MEASURED_RATE}},
            "embedded": {
                "as shipped": {
                    "idle_share_of_a_core": 0.006,
                    "1/s": {k: v for k, v in MEASURED_RATE.items() if k != "append_ms"},
                }
            },
        },
        "ceiling": {
            "as shipped": {
                "records": 200_000,
                "record_bytes": 988,
                "records_per_second": 66_719,
                "mb_per_second": 65.8,
                "consumer_us_per_record": 15.5,
                "consumer_share_of_a_core": 1.03,
                "worker_us_per_record": 8.1,
            }
        },
    },
    "exactly_once": {
        "clients": 2000,
        "frames": 1_200_000,
        "others": 2000,
        "gaps": 0,
        "duplicates": 0,
        "checked": 1203,
        "closed": 0,
        "least": 600,
        "most": 600,
        "records": 600,
        "expected": 1_200_000,
        "exactly_once": True,
        "delay_ms": {"p50": 7.1, "p99": 22.0, "p100": 41.0},
        "cpu_seconds": {"worker-0": 3.0},
    },
    "fanout": {
        "fanout": [
            {
                "tls": tls,
                "clients": 2000,
                "bytes": 1138,
                "records_per_second": rate,
                "worker_us": 5.5,
                "consumer_us": 0.3,
                "writes_per_delivery": 1.0 if rate == 20.0 else 0.05,
                "deliveries_per_core_second": 181_818,
                "delay_p50_ms": 10.5,
                "delay_p99_ms": 20.5,
                "delay_p100_ms": 25.5,
                "first_to_last_p50_ms": 9.5,
                **loop,
            }
            for tls, rate, loop in (
                (False, 20.0, {"c_us": 5.1, "ratio": 1.08, "ratio_min": 1.05, "ratio_max": 1.1}),
                (True, 1000.0, {}),
            )
        ]
    },
    "handshake": {
        "clients": 2_000,
        "handshakes": [
            {
                "kind": kind,
                "worker_us": 480.0,
                "worker_clients_us": 430.0,
                "c_us": 240.0,
                "c_clients_us": 425.0,
                "ratio": 2.0,
                "ratio_min": 1.9,
                "ratio_max": 2.1,
            }
            for kind in ("plain", "tls", "tls_sessions")
        ],
    },
    "idle": {
        "worker-0": {"rss_mib": 55.04, "pss_mib": 40.1, "cpu_ms_per_second": 1.05},
        "total": {"rss_mib": 140.2, "pss_mib": 100.9, "cpu_ms_per_second": 4.2},
    },
    "deploy": {
        "clients": 10_000,
        "records_a_second": 1.0,
        "drain_delay_seconds": 2.0,
        "drain_seconds": 62.5,
        "ceiling": 200.0,
        "busiest_second": 180,
        "steps": [STEP, {**STEP, "name": "drain replica b"}],
    },
    "metrics": {
        "loads": [
            {
                "clients": 2000,
                "bytes": 440,
                "deliveries_per_second": 40_000.0,
                **{
                    f"{what}_ratio{which}": value
                    for what in ("worker", "service")
                    for which, value in (("", 1.01), ("_min", 0.985), ("_max", 1.03))
                },
                "worker_us_with": 7.07,
                "worker_us_without": 7.0,
            }
        ],
        "scrape": {
            "scrape_bytes": 21_000,
            "scrape_ms": 4.25,
            "scrape_cpu_ms": {"supervisor": 3.5, "consumer": 0.0, "worker-0": 0.0},
        },
    },
    "memory": {
        "clients": 10_000,
        "plain": {"before": MEMORY, "idle": MEMORY},
        "tls": {"before": MEMORY, "idle": MEMORY},
    },
    "peers": {
        "clients": 2000,
        "peers": {"axum": {"axum": "0.8.9", "rust": "1.95.0"}, "picows": {"picows": "2.3.1"}},
        "skipped": {"ws": "npm not found on PATH"},
        "rows": [
            {
                "peer": "energyws",
                **{name: PEER[name] for name in ("tls", "bytes", "target", "load", "energyws")},
                **{name: PEER[name] for name in ("rss_kb_connected", "rss_kb_used")},
            },
            {"peer": "axum", **PEER},
            {
                "peer": "picows",
                **PEER,
                "target": 2_000_000.0,
                "load": 320_000,
                "kept_up": False,
                "worker": {**RATIO, "ratio": 0.9},
            },
        ],
    },
    "replicas": {
        "broker": "kafka",
        "bytes": 1138,
        "rows": [
            {
                "replicas": replicas,
                "records_per_second": 20.0,
                "connections": 3,
                "received_per_second": 25_153,
                "sent_per_second": 3368,
                "broker_cores": 0.0613,
            }
            for replicas in (1, 2)
        ],
    },
    "resume": {
        "resuming": 1000,
        "records_each": 10_000,
        "seconds_until_all_have_them": 21.4,
        "records_read_from_kafka": 19_500,
        "live": 1000,
        "live_delay_ms_before": {"p50": 5.0, "p99": 12.0, "p100": 20.0},
        "live_delay_ms_meanwhile": {"p50": 6.0, "p99": 24.0, "p100": 60.0},
        "p99_ratio": 2.0,
        "cpu_seconds_meanwhile": {"worker-0": 9.0},
        "exactly_once": True,
    },
    "schemas": {
        "rows": [
            {
                "shape": "flat",
                "format": form,
                "record_bytes": 100,
                "json_bytes": 1389,
                "us": 6.25,
                "more_us": 4.5,
            }
            for form in ("json", "json_schema", "avro", "protobuf")
        ]
    },
    "sse": {
        "rows": [
            {
                "tls": tls,
                "clients": 2000,
                "record_bytes": 1138,
                "deliveries_per_second": 40_000.0,
                **{**RATIO, "ratio": 1.02},
                "sse": {**HTTP, "worker_us": 7.1, "bytes": 1180.0},
                "websocket": {**HTTP, "worker_us": 7.0, "bytes": 1150.0},
            }
            for tls in (False, True)
        ]
    },
    "storm": {
        "workers": 2,
        "clients": 10_000,
        "live": 1_000,
        "missed": 30,
        "storms": {
            variant: {
                "seconds_until_last": {"upgraded": 2.1, "subscribed": 2.1, "caught_up": 2.5},
                "seconds_until_half": {"upgraded": 1.1, "subscribed": 1.1, "caught_up": 1.9},
                "cpu_us_per_client": {"worker-0": 150.0, "worker-1": 140.5, "generator": 60.0},
                "refused": 0,
                "sessions_resumed": 5_000,
                "gaps": 0,
                "live_delay_ms_before": {"p50": 5.0, "p99": 12.0, "p100": 20.0},
                "live_delay_ms_meanwhile": {"p50": 9.0, "p99": 90.0, "p100": 120.0},
                "exactly_once": True,
                "good": True,
            }
            for variant in ("seen", "fresh", "tls", "tls_sessions")
        },
    },
    "tune": {
        "clients": 2000,
        "rate": 20.0,
        "bytes": 440,
        "foreign": False,
        "rows": [
            {
                "workers": workers,
                "deliveries_per_second": 40_000,
                "cores": CORES,
                "machine_share": 0.6,
                "delay_ms": DELAY,
                "exact": True,
            }
            for workers in (1, 2)
        ],
        "advice": {"workers": 1, "reason": "it is enough", "warnings": ["all cores were busy"]},
    },
    "first_gauge": {
        "rows": [
            {"cache": cache, "step": step, "seconds": seconds, "total": total, "cpu": 1.0}
            for cache, more in (("cold", 0.0), ("warm", 0.5))
            for step, seconds, total in (
                ("clone", 0.25 + more, 0.25 + more),
                ("gauge shows a number", 8.5 + more, 8.75 + 2 * more),
                ("ended", 1.0, 12.0),
            )
        ],
        "kept_bytes": 0,
    },
    "visitors": {
        "clients": 2000,
        "deliveries_per_second": 40_000.0,
        "pages": 20,
        "requests_per_second": 50.0,
        **{f"p99_{name}": value for name, value in RATIO.items()},
        **{f"worker_{name}": value for name, value in RATIO.items()},
        "without": {"worker_us": 7.0, "delay_p50_ms": 5.0, "delay_p99_ms": 20.0},
        "with": {"worker_us": 8.0, "delay_p50_ms": 5.5, "delay_p99_ms": 24.0},
        "visits": {
            "responses": 250.0,
            "refused": 1.0,
            "request_ms": {"p50": 1.5, "p99": 3.25},
        },
    },
    "keyed_curve": {
        "broker": "embedded",
        "published_ms": {"10000": 19, "52000": 24},
        "points": {
            clients: {
                "deliveries": 1_500_000,
                "delay_ms": {**DELAY, "p99.9": 25.0, "standard_deviation": 3.0},
                "lost": 0,
                "published_ms": published,
                "workers": 2,
                "worker_us_per_delivery": 7.0,
                "cores": CORES,
            }
            for clients, published in (("10000", 19), ("20000", None))
        },
    },
    "households": {
        "broker": "embedded",
        "loads": [
            {
                "clients": 20_000,
                "meters": 1_000_000,
                "ring_frames": 40_000,
                "records_per_second": 1000,
                "wanted": 1212,
                "delay_ms": {**DELAY, "p99.9": 25.0},
                "in_time": 0.99995,
                "lost": 0,
                "share_of_a_core": CORES,
                "share_of_a_core_idle": {"consumer": 0.001, "worker-0": 0.002},
            }
        ],
    },
    "rollout": {
        "clients": 20_000,
        "workers": 2,
        "drain_seconds": 20.0,
        "records_per_second": 100.0,
        "returned": 20_000,
        "refused": 3,
        "records_read_again": 0,
        "duplicates": 0,
        "lost": 0,
        "seconds_until_all_processes_were_new": 45.5,
        "seconds_until_all_were_back": 46.5,
        "longest_away_seconds": 1.25,
    },
    "key_costs": {
        "unwanted_us": {"clients": 5000, "keyed": 4.5, "plain": 4.0, "difference": 0.5},
        "memory": {
            "clients": 4000,
            "keys_each": 50,
            "bytes_per_client_with_one_key": 11_000,
            "bytes_per_key": 280,
        },
    },
    "snapshot": {
        "keys": 1_000_000,
        "frame_bytes": 440,
        "table": {
            "old_record_us": 1.9,
            "mib_until_warm": 566.1,
            "mib": 526.2,
            "bytes_per_key": 551.7,
            "mib_by_its_own_account": 531.0,
            "live_record_us": 2.5,
            "value_of_a_client_us": 4.6,
            "value_in_a_scan_us": 1.5,
        },
        "service": {
            "warm_seconds": 7.0,
            "keys": 1_000_000,
            "consumer_mib": 647.3,
            "consumer_mib_when_ready": 324.5,
            "consumer_cpu_seconds": 7.4,
            "clients": 20_000,
            "keys_of_a_client": 3,
            "snapshots": 60_000,
            "served_seconds": 4.5,
            "served_seconds_p50": 2.5,
            "wrong": {"gaps": 0, "duplicates": 0, "foreign": 0, "closed": 0},
            "cpu_seconds": {"consumer": 0.5, "worker-0": 3.5, "worker-1": 3.5},
        },
    },
}


def document(bench: str) -> dict[str, Any]:
    return {
        "command": [f"{bench}.py", "--seconds", "60", "--out", "somewhere.json"],
        "time": "2026-11-23T21:00:00Z",
        "cpu": "A CPU",
        "cores": 2,
        "kernel": "6.1",
        "python": "3.11.7",
        "packages": {"picows": "2.3.1"},
        "results": RESULTS[bench],
    }


def page(*benches: str) -> str:
    places = [f"<!-- bench {b}: begin -->\nold\n<!-- bench {b}: end -->\n" for b in benches]
    return "# Page\n\n" + "between\n".join(places) + "end\n"

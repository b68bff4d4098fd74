// Where a worker tells what happened; written by drivers, recorded by tests.
#pragma once

#include <cstdint>

#include "penstock/account_record.hpp"
#include "penstock/ids.hpp"
#include "penstock/time.hpp"
#include "proxy/flow/request_flow.hpp"

namespace penstock::worker {

// Whether an answer of which much was believed to be cached told how much was.
enum class cache_told : std::uint8_t { unknown, no, yes };

// Passive health: what a request learned about an endpoint that it was sent to at `began`.
struct endpoint_outcome {
  endpoint_id endpoint;
  flow::fault fault = flow::fault::none;  // none: it served
  bool token = false;                     // a token came (fault is none then)
  instant began{}, at{};
  cache_told cache = cache_told::unknown;  // of an answer that ended well
};

// Called on the worker's thread; must not call back.
class observer {
 public:
  // One request ended. Exactly once for each request whose head was read or refused.
  virtual void account(const account_record& record) = 0;
  virtual void outcome(const endpoint_outcome& what) = 0;

  // Claims a request id (its hash) that a client chose, for the whole process. False: such a request is in
  // flight, on this worker or another. A claim is given back when the request was accounted.
  virtual bool claim_request_id(std::uint64_t hash) = 0;
  virtual void release_request_id(std::uint64_t hash) = 0;

 protected:
  ~observer() = default;
};

// A claimed request id; given back by the destructor.
class request_id_claim {
 public:
  request_id_claim() = default;
  request_id_claim(const request_id_claim&) = delete;
  request_id_claim& operator=(const request_id_claim&) = delete;
  ~request_id_claim() {
    if (owner_ != nullptr) owner_->release_request_id(hash_);
  }
  // False: it is in flight.
  bool take(observer& from, std::uint64_t hash) {
    if (!from.claim_request_id(hash)) return false;
    owner_ = &from;
    hash_ = hash;
    return true;
  }

 private:
  observer* owner_ = nullptr;
  std::uint64_t hash_ = 0;
};

}  // namespace penstock::worker

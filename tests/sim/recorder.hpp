// What a worker told in a run.
#pragma once

#include <map>
#include <set>
#include <string>

#include "proxy/worker/observer.hpp"

namespace sim {

struct recorder final : penstock::worker::observer {
  std::map<std::string, int> accounted;
  std::map<std::string, penstock::reason> ended;  // how, by request
  std::multiset<std::uint64_t> claims;
  void account(const penstock::account_record& r) override {
    ++accounted[r.request_id];
    ended[r.request_id] = r.why;
  }
  void outcome(const penstock::worker::endpoint_outcome&) override {}
  bool claim_request_id(std::uint64_t hash) override {
    if (claims.count(hash) != 0) return false;
    claims.insert(hash);
    return true;
  }
  void release_request_id(std::uint64_t hash) override { claims.erase(claims.find(hash)); }
};

}  // namespace sim

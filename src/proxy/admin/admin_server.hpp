// The admin listener: metrics, health and debug pages. Read-only; kept off the data threads.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace penstock::admin {

struct page {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

// Makes a page; `answer` may be called later, on the same thread, exactly once.
using page_maker = std::function<void(const std::function<void(page)>& answer)>;

// A POST: its body, the query behind its path without the question mark, and its header fields.
struct form {
  std::string body, query;
  std::vector<std::pair<std::string, std::string>> fields;
};
using form_maker = std::function<void(form, const std::function<void(page)>& answer)>;

// Serves GET and HEAD of a fixed set of paths, and POST of another, over HTTP/1.1. A client has 10 s for a
// request and for taking its answer; at most 64 connections at a time and 4 MiB a body.
class admin_server {
 public:
  admin_server(boost::asio::io_context& context, std::map<std::string, page_maker> pages,
               std::map<std::string, form_maker> forms = {});
  ~admin_server();

  // "host:port" or "unix:/path". Empty, or why it cannot listen.
  std::string listen(const std::string& address);
  // Where it listens, for port 0.
  std::string address() const;
  void close();

 private:
  struct impl;
  std::shared_ptr<impl> impl_;
};

}  // namespace penstock::admin

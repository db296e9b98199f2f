;;; rlm-call.el --- A request on its way to the server  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; A call is a request on its way: it ends once, by a result, by an error or
;; because time is over.
;;
;; Only asynchronous requests of jsonrpc.el are used, and nothing that
;; jsonrpc.el calls may signal: the version that Emacs 28 has loses or
;; delays messages otherwise.

;;; Code:

(require 'cl-lib)
(require 'jsonrpc)

(cl-defstruct (rlm-call (:constructor rlm-call--make) (:copier nil))
  "A request on its way."
  method params success error timer done)

(defun rlm-call-make (method params success error timeout)
  "Return a call that asks METHOD with PARAMS and is not sent yet.
SUCCESS is called with the result, or ERROR with a plist of :code, :message
and :data, exactly one of them and once.  TIMEOUT, in seconds, begins now;
nil: there is none."
  (let ((call (rlm-call--make :method method :params params
                              :success (or success #'ignore) :error (or error #'ignore))))
    (when timeout
      (setf (rlm-call-timer call) (run-at-time timeout nil #'rlm-call--time-out call)))
    call))

(defun rlm-call-send (call connection explain)
  "Send CALL over CONNECTION, unless it has ended.
EXPLAIN is called with CONNECTION and an error, a plist, and returns the
error that is told."
  (unless (rlm-call-done call)
    (condition-case problem
        (jsonrpc-async-request
         connection (rlm-call-method call) (rlm-call-params call)
         :timeout nil
         :success-fn (lambda (result) (rlm-call--finish call #'rlm-call-success result))
         :error-fn (lambda (problem)
                     (rlm-call-fail call (funcall explain connection problem))))
      (error
       (rlm-call-fail call (rlm-call--unsent (jsonrpc--process connection) problem))))))

(defun rlm-call--unsent (process problem)
  "Return the reason, a plist, why nothing can be sent to PROCESS, given PROBLEM."
  (if (eq (process-status process) 'stop)
      (list :code -1
            :message (format "The rlm server, process %s, is suspended." (process-id process))
            :data '(:kind "suspended" :cure "Let it go on (SIGCONT), or M-x rlm-restart-server."))
    (list :code -1 :message (error-message-string problem))))

(defun rlm-call-fail (call problem)
  "End CALL by PROBLEM, a plist, unless it has ended."
  (rlm-call--finish call #'rlm-call-error problem))

(defun rlm-call--finish (call which value)
  "End CALL: give VALUE to a function of it, chosen by the accessor WHICH.
Does nothing if it has ended already."
  (unless (rlm-call-done call)
    (setf (rlm-call-done call) t)
    (when (rlm-call-timer call)
      (cancel-timer (rlm-call-timer call)))
    (rlm-call-safely (funcall which call) value)))

(defun rlm-call--time-out (call)
  "End CALL, which the server hasn't answered in time."
  (rlm-call-fail
   call
   (list :code -2
         :message (format "The rlm server did not answer %s in time." (rlm-call-method call))
         :data '(:kind "timeout" :cure "Try again, or M-x rlm-restart-server."))))

(defun rlm-call-safely (function &rest arguments)
  "Call FUNCTION with ARGUMENTS; an error is told, not signalled.
An error in what jsonrpc.el calls would hold back later messages."
  (condition-case problem
      (apply function arguments)
    ((error quit)
     (message "rlm: error in %s: %s"
              (if (symbolp function) function "a handler")
              (error-message-string problem))
     nil)))

(provide 'rlm-call)
;;; rlm-call.el ends here

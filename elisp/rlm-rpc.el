;;; rlm-rpc.el --- The connection to the rlm server  -*- lexical-binding: t; -*-

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

;; One connection, started by the first request that needs it, over the
;; pipes of a process or over TCP to a server that runs already.  This
;; file knows JSON-RPC and processes; it knows no buffer that a person
;; reads and no Org.
;;
;; - `rlm-rpc-request' asks and returns at once; a function gets the reply.
;; - `rlm-rpc-call' waits for the reply, never longer than its time-out,
;;   and can be quit.
;; - `rlm-rpc-event-function' gets every event, `rlm-rpc-end-function' is
;;   told when the connection has ended and why, `rlm-rpc-silence-function'
;;   when the server stops answering and when it answers again.
;;
;; Only asynchronous requests of jsonrpc.el are used, and nothing that
;; jsonrpc.el calls may signal: the version that Emacs 28 has loses or
;; delays messages otherwise.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'jsonrpc)
(require 'rlm-server)

(declare-function auth-source-forget "auth-source" (spec))
(declare-function auth-source-search "auth-source")

;;;; Customization

(defcustom rlm-server-address nil
  "Address of a server that runs already, as \"HOST:PORT\", or nil.
HOST has to be this machine.  With nil, Emacs starts a server of its own;
see `rlm-server-command'.  Start a server that outlives Emacs by
\"rlm-server --tcp 127.0.0.1:PORT\"."
  :group 'rlm
  :type '(choice (const :tag "Start a server" nil)
                 (string :tag "HOST:PORT" :valid-regexp "\\`[^ ]+:[0-9]+\\'"))
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-server-token-file nil
  "File that holds the secret which the server at `rlm-server-address' wants.
The server says its name when it starts."
  :group 'rlm
  :type '(choice (const :tag "None" nil) file)
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-use-auth-source t
  "Whether to look in auth-source for the keys that the server lacks.
Only the hosts that the server asks for are looked up.  The keys go to the
server alone, which keeps them in memory."
  :group 'rlm
  :type 'boolean
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-request-timeout 30
  "Seconds to wait for the reply to a request.
A run takes as long as it takes: asking is answered at once, and the
answer arrives as events."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

(defcustom rlm-heartbeat 4
  "Seconds between two looks at whether the server still answers.
It is looked at only while a run is live.  Nil: never."
  :group 'rlm
  :type '(choice (const :tag "Never" nil) rlm-amount)
  :package-version '(rlm . "0.1.0"))

;;;; Constants and variables

(defconst rlm-rpc-protocol-version 2
  "Version of the protocol that this package speaks.")

(defconst rlm-rpc-client-version "0.1.0"
  "Version of this package, as told to the server.")

(defconst rlm-rpc--starts-allowed 3
  "How many times a server is started within `rlm-rpc--starts-seconds'.")

(defconst rlm-rpc--starts-seconds 60
  "Seconds for which the start of a server is remembered.")

(defvar rlm-rpc-event-function #'ignore
  "Function called with each event of a run, a plist.")

(defvar rlm-rpc-end-function #'ignore
  "Function called with a sentence that says why the connection has ended.")

(defvar rlm-rpc-silence-function #'ignore
  "Function called with the seconds for which the server hasn't answered.
Called with nil as soon as it answers again.")

(defvar rlm-rpc--connection nil
  "The connection, an object of jsonrpc.el, or nil.")

(defvar rlm-rpc--info nil
  "The server's answer to the handshake, or nil before it.")

(defvar rlm-rpc--waiting nil
  "Requests that wait for the handshake, newest first.")

(defvar rlm-rpc--starts nil
  "Times at which a server was started, newest first.")

(defvar rlm-rpc--ending nil
  "Sentence that says why the connection is being ended, or nil.")

;;;; Requests

(cl-defstruct (rlm-rpc--call (:constructor rlm-rpc--make-call) (:copier nil))
  "A request on its way."
  method params success error timer done)

(cl-defun rlm-rpc-request (method params &key success error timeout)
  "Ask the server METHOD, a symbol, with PARAMS, a plist or nil.
SUCCESS is called with the result, or ERROR with a plist of :code,
:message and :data, exactly one of them and once, also when the server
dies or doesn't answer within TIMEOUT seconds (`rlm-request-timeout' by
default; the symbol `never' for requests that take as long as they take).
Start the server if need be; signal `rlm-rpc-error' if that can't be done."
  (let ((call (rlm-rpc--make-call :method method :params params
                                  :success (or success #'ignore)
                                  :error (or error #'ignore))))
    (rlm-rpc--ensure)
    (unless (eq timeout 'never)
      (setf (rlm-rpc--call-timer call)
            (run-at-time (or timeout rlm-request-timeout) nil
                         #'rlm-rpc--time-out call)))
    (if rlm-rpc--info
        (rlm-rpc--send call)
      (push call rlm-rpc--waiting))
    nil))

(defun rlm-rpc-call (method params &optional timeout)
  "Ask the server METHOD with PARAMS, wait for the result and return it.
Wait at most TIMEOUT seconds (`rlm-request-timeout'); \\[keyboard-quit] quits.
Signal `rlm-rpc-error' if there is no result."
  (let (reply)
    (rlm-rpc-request method params :timeout timeout
                     :success (lambda (result) (setq reply (list 'result result)))
                     :error (lambda (problem) (setq reply (list 'error problem))))
    (while (not reply)
      (accept-process-output nil 0.05))
    (if (eq (car reply) 'result)
        (cadr reply)
      (signal 'rlm-rpc-error (list (rlm-rpc-error-text (cadr reply)))))))

(defun rlm-rpc-ask (method params success failure &optional timeout)
  "Ask the server METHOD with PARAMS, and don't wait for the result.
Give it to SUCCESS, or what has gone wrong, a sentence, to FAILURE, also if
there is no server.  TIMEOUT is that of `rlm-rpc-request'."
  (condition-case problem
      (rlm-rpc-request method params :timeout timeout :success success
                       :error (lambda (problem)
                                (funcall failure (rlm-rpc-error-text problem))))
    (rlm-rpc-error (funcall failure (cadr problem)))
    (quit (funcall failure "The server was not waited for.")
          (signal 'quit nil))))

(defun rlm-rpc-error-text (problem)
  "Return the text of PROBLEM, an error plist: what happened, and the cure."
  (let ((message (or (plist-get problem :message) "unknown error"))
        (cure (plist-get (plist-get problem :data) :cure)))
    (if (and (stringp cure) (not (string-empty-p cure))
             (not (string-search cure message)))
        (concat message " " cure)
      message)))

(defun rlm-rpc--send (call)
  "Send CALL over the connection."
  (let ((connection rlm-rpc--connection))
    (condition-case problem
        (jsonrpc-async-request
         connection (rlm-rpc--call-method call) (rlm-rpc--call-params call)
         :timeout nil
         :success-fn (lambda (result) (rlm-rpc--finish call #'rlm-rpc--call-success result))
         :error-fn (lambda (problem)
                     (rlm-rpc--finish call #'rlm-rpc--call-error
                                      (rlm-rpc--explained connection problem))))
      (error
       (rlm-rpc--finish call #'rlm-rpc--call-error
                        (list :code -1 :message (error-message-string problem)))))))

(defun rlm-rpc--explained (connection problem)
  "Return PROBLEM of CONNECTION, with how the server has died if it has."
  (if (eql (plist-get problem :code) -1)
      (list :code -1 :message (or rlm-rpc--ending
                                  (rlm-rpc--death (jsonrpc--process connection))))
    problem))

(defun rlm-rpc--finish (call which value)
  "End CALL: give VALUE to a function of it, chosen by the accessor WHICH.
Does nothing if it has ended already."
  (unless (rlm-rpc--call-done call)
    (setf (rlm-rpc--call-done call) t)
    (when (rlm-rpc--call-timer call)
      (cancel-timer (rlm-rpc--call-timer call)))
    (rlm-rpc--safely (funcall which call) value)))

(defun rlm-rpc--time-out (call)
  "End CALL, which the server hasn't answered in time."
  (setq rlm-rpc--waiting (delq call rlm-rpc--waiting))
  (rlm-rpc--finish
   call #'rlm-rpc--call-error
   (list :code -2
         :message (format "The rlm server did not answer %s in time."
                          (rlm-rpc--call-method call))
         :data '(:kind "timeout" :cure "Try again, or M-x rlm-restart-server."))))

(defun rlm-rpc--safely (function &rest arguments)
  "Call FUNCTION with ARGUMENTS; an error is told, not signalled.
An error in what jsonrpc.el calls would hold back later messages."
  (condition-case problem
      (apply function arguments)
    ((error quit)
     (message "rlm: error in %s: %s"
              (if (symbolp function) function "a handler")
              (error-message-string problem))
     nil)))

;;;; The connection's life

(defun rlm-rpc-live-p ()
  "Return non-nil if the server is connected."
  (and rlm-rpc--connection (jsonrpc-running-p rlm-rpc--connection)))

(defun rlm-rpc-info ()
  "Return the server's answer to the handshake, a plist, or nil."
  (and (rlm-rpc-live-p) rlm-rpc--info))

(defun rlm-rpc-process ()
  "Return the process of the connection, or nil."
  (and rlm-rpc--connection (jsonrpc--process rlm-rpc--connection)))

(defun rlm-rpc-stop (&optional reason)
  "End the connection; REASON is a sentence for who asks why.
A server that Emacs has started ends with it."
  (when rlm-rpc--connection
    (setq rlm-rpc--ending (or reason "The server was stopped."))
    (let ((connection rlm-rpc--connection)
          (process (rlm-rpc-process)))
      (when (and (rlm-rpc-live-p) (not rlm-server-address))
        (ignore-errors (jsonrpc-notify connection 'exit nil)))
      (delete-process process)
      (rlm-rpc--forget connection))))

(defvar rlm-rpc-busy-function #'ignore
  "Function that returns non-nil while the connection must not be given up.")

(defun rlm-rpc-use-host (host)
  "Let the server be that of HOST, nil for this machine, from now on.
Signal `rlm-rpc-error' while runs are going on at another one."
  (unless (equal host rlm-server-host)
    (when (and host rlm-server-address)
      (signal 'rlm-rpc-error
              '("With `rlm-server-address', files on other machines can't be asked about")))
    (when (rlm-rpc-live-p)
      (when (funcall rlm-rpc-busy-function)
        (signal 'rlm-rpc-error
                (list (format "A run is going on at %s: one server is connected at a time"
                              (or rlm-server-host "this machine")))))
      (rlm-rpc-stop "The server of another machine is used now."))
    (rlm-rpc-forgive)
    (setq rlm-server-host host)))

(defun rlm-rpc-forgive ()
  "Forget how often the server was started, so that it may be again."
  (setq rlm-rpc--starts nil))

(defun rlm-rpc--ensure ()
  "Connect unless there is a connection."
  (unless (rlm-rpc-live-p)
    (when rlm-rpc--connection
      (rlm-rpc--forget rlm-rpc--connection))
    (rlm-rpc--check-starts)
    (rlm-rpc--connect)))

(defun rlm-rpc--check-starts ()
  "Signal `rlm-rpc-error' if the server was started too often of late."
  (setq rlm-rpc--starts
        (seq-filter (lambda (time) (< (- (float-time) time) rlm-rpc--starts-seconds))
                    rlm-rpc--starts))
  (when (>= (length rlm-rpc--starts) rlm-rpc--starts-allowed)
    (rlm-server-show-log)
    (signal 'rlm-rpc-error
            (list (format "The server has ended %d times within a minute; %s"
                          (length rlm-rpc--starts)
                          "see its log, then M-x rlm-restart-server"))))
  (push (float-time) rlm-rpc--starts))

(defun rlm-rpc--connect ()
  "Start or reach the server, and begin the handshake."
  (setq rlm-rpc--info nil rlm-rpc--ending nil)
  (condition-case problem
      (let ((process-adaptive-read-buffering nil)
            (read-process-output-max (max 65536 read-process-output-max)))
        (setq rlm-rpc--connection (rlm-rpc--make-connection))
        (rlm-rpc--initialize))
    ((error quit)
     (rlm-rpc-stop (error-message-string problem))
     (if (memq (car problem) '(quit rlm-rpc-error))
         (signal (car problem) (cdr problem))
       (signal 'rlm-rpc-error (list (error-message-string problem)))))))

(defun rlm-rpc--make-connection ()
  "Return a new connection."
  (apply #'make-instance 'jsonrpc-process-connection
         :name "rlm"
         :process (if rlm-server-address #'rlm-rpc--open-tcp #'rlm-server-start)
         :notification-dispatcher #'rlm-rpc--on-notification
         :on-shutdown #'rlm-rpc--on-shutdown
         ;; The events buffer costs twenty times the rest, and would hold keys.
         (if (boundp 'jsonrpc-event-hook)
             '(:events-buffer-config (:size 0 :format short))
           '(:events-buffer-scrollback-size 0))))

(defun rlm-rpc--open-tcp ()
  "Return a process connected to `rlm-server-address'."
  (unless (string-match "\\`\\(127\\.[0-9.]+\\|localhost\\|\\[?::1\\]?\\):\\([0-9]+\\)\\'"
                        rlm-server-address)
    (signal 'rlm-rpc-error
            (list (format "`rlm-server-address' must be HOST:PORT on this machine, not %s"
                          rlm-server-address))))
  (make-network-process
   :name "rlm" :host (string-trim (match-string 1 rlm-server-address) "\\[" "\\]")
   :service (string-to-number (match-string 2 rlm-server-address))
   :coding 'utf-8-emacs-unix :noquery t))

(defvar rlm-rpc-notice-function #'ignore
  "Function called with method and parameters of notifications that are no events.")

(defun rlm-rpc--on-notification (_connection method params)
  "Give PARAMS of a notification METHOD on, most often events."
  (if (not (eq method 'rlm/events))
      (rlm-rpc--safely rlm-rpc-notice-function method params)
    (rlm-rpc--alive)
    (seq-doseq (event (plist-get params :events))
      (rlm-rpc--safely rlm-rpc-event-function event))))

(defun rlm-rpc--on-shutdown (connection)
  "Clean up after CONNECTION, whose process has ended."
  (rlm-rpc--safely #'rlm-rpc--forget connection)
  (rlm-rpc--safely #'rlm-rpc--bury connection))

(defun rlm-rpc--forget (connection)
  "Give up CONNECTION: end what waits for it and tell that it has ended."
  (when (eq connection rlm-rpc--connection)
    (let ((reason (or rlm-rpc--ending (rlm-rpc--death (jsonrpc--process connection))))
          (waiting (nreverse rlm-rpc--waiting)))
      (setq rlm-rpc--connection nil rlm-rpc--info nil
            rlm-rpc--waiting nil rlm-rpc--ending nil)
      (rlm-rpc-watch nil)
      (dolist (call waiting)
        (rlm-rpc--finish call #'rlm-rpc--call-error (list :code -1 :message reason)))
      (rlm-rpc--safely rlm-rpc-end-function reason))))

(defun rlm-rpc--death (process)
  "Return a sentence on the end of PROCESS."
  (cond (rlm-server-address "The connection to the server was lost.")
        ((eq (process-status process) 'signal)
         (format "The server was killed by signal %d." (process-exit-status process)))
        (t (format "The server ended with status %d.%s" (process-exit-status process)
                   (rlm-server-last-words)))))

(defun rlm-rpc--bury (connection)
  "Kill the buffers that jsonrpc.el has made for CONNECTION."
  (let ((process (jsonrpc--process connection)))
    (dolist (buffer (list (get-buffer "*rlm events*") (process-buffer process)
                          (process-get process 'jsonrpc-stderr)))
      (when (buffer-live-p buffer)
        (let (kill-buffer-query-functions)
          (kill-buffer buffer))))))

;;;; Handshake

(defun rlm-rpc--initialize ()
  "Begin the handshake; requests wait for its end."
  (let* ((connection rlm-rpc--connection)
         (call (rlm-rpc--make-call
                :method 'initialize :params (rlm-rpc--initialize-params)
                :success (lambda (result) (rlm-rpc--on-initialized connection result))
                :error (lambda (problem) (rlm-rpc--refused connection problem)))))
    (setf (rlm-rpc--call-timer call)
          (run-at-time rlm-request-timeout nil #'rlm-rpc--time-out call))
    (rlm-rpc--send call)))

(defun rlm-rpc--initialize-params ()
  "Return the parameters of the handshake."
  (append (list :protocolVersion rlm-rpc-protocol-version
                :clientInfo (list :name "rlm.el" :version rlm-rpc-client-version)
                :processId (emacs-pid))
          (when (and rlm-server-address rlm-server-token-file)
            (list :token (rlm-rpc--token)))))

(defun rlm-rpc--token ()
  "Return the content of `rlm-server-token-file'."
  (with-temp-buffer
    (insert-file-contents rlm-server-token-file)
    (string-trim (buffer-string))))

(defun rlm-rpc--on-initialized (connection result)
  "Go on after the handshake of CONNECTION was answered with RESULT."
  (cond ((not (eq connection rlm-rpc--connection)))
        ((not (equal (plist-get result :protocolVersion) rlm-rpc-protocol-version))
         (rlm-rpc-stop
          (format "The server (version %s) speaks version %s of the protocol, Emacs version %s: %s"
                  (plist-get result :serverVersion) (plist-get result :protocolVersion)
                  rlm-rpc-protocol-version
                  "update the older of the two, see M-x rlm-install-server.")))
        ;; auth-source may ask for a passphrase, which must not be done here.
        (t (run-at-time 0 nil #'rlm-rpc--safely
                        #'rlm-rpc--hand-over-keys connection result))))

(defun rlm-rpc--refused (connection problem)
  "Give CONNECTION up: the handshake failed with PROBLEM."
  (when (eq connection rlm-rpc--connection)
    (unless (eql (plist-get problem :code) -1)
      (rlm-rpc-stop (rlm-rpc-error-text problem)))))

(defun rlm-rpc--hand-over-keys (connection info)
  "Send CONNECTION's server the keys that it lacks by its INFO, then be ready."
  (when (eq connection rlm-rpc--connection)
    (let ((keys (and rlm-use-auth-source
                     (not rlm-server-host) ; they stay on this machine
                     ;; Who quits the prompt for a passphrase asks without those keys.
                     (condition-case nil
                         (rlm-rpc--find-keys (plist-get info :keysWanted))
                       (quit (message "rlm: no keys from auth-source") nil)))))
      (when (eq connection rlm-rpc--connection)
        (if (not keys)
            (rlm-rpc--open connection info)
          (let ((open (lambda (_) (rlm-rpc--open connection info))))
            (rlm-rpc--send
             (rlm-rpc--make-call :method 'rlm/keys :params (list :keys keys)
                                 :success open :error open))))))))

(defun rlm-rpc--find-keys (wanted)
  "Return a plist of model and secret for what is WANTED and auth-source has."
  (require 'auth-source)
  (let (keys)
    (seq-doseq (want wanted)
      (when-let* ((host (plist-get want :host))
                  (spec (list :host host :max 1 :require '(:secret)))
                  (found (with-demoted-errors "rlm: auth-source: %S"
                           ;; It may have remembered for hours that there is none, or an old one.
                           (auth-source-forget spec)
                           (car (apply #'auth-source-search spec))))
                  (secret (plist-get found :secret)))
        (setq keys (cons (intern (concat ":" (plist-get want :name)))
                         (cons (if (functionp secret) (funcall secret) secret)
                               keys)))))
    keys))

(defun rlm-rpc--open (connection info)
  "Send what has waited for CONNECTION, whose server has told INFO."
  (when (eq connection rlm-rpc--connection)
    (setq rlm-rpc--info info)
    (let ((waiting (nreverse rlm-rpc--waiting)))
      (setq rlm-rpc--waiting nil)
      (mapc #'rlm-rpc--send waiting))))

;;;; Heartbeat

(defvar rlm-rpc--heart nil
  "Timer that looks whether the server answers, or nil.")

(defvar rlm-rpc--asked nil
  "Time since which an answer to the heartbeat is awaited, or nil.")

(defvar rlm-rpc--beating nil
  "Non-nil while a request of the heartbeat is under way.")

(defvar rlm-rpc--silent nil
  "Non-nil if the server's silence was told.")

(defun rlm-rpc-watch (on)
  "Look from now on whether the server answers, if ON is non-nil."
  (cond ((not on)
         (when rlm-rpc--heart (cancel-timer rlm-rpc--heart))
         (setq rlm-rpc--heart nil rlm-rpc--asked nil rlm-rpc--beating nil rlm-rpc--silent nil))
        ((and rlm-heartbeat (not rlm-rpc--heart))
         (setq rlm-rpc--heart
               (run-at-time rlm-heartbeat rlm-heartbeat
                            #'rlm-rpc--safely #'rlm-rpc--beat)))))

(defun rlm-rpc--beat ()
  "Ask the server for a sign of life, and tell if it gives none.
A request that could not be sent, as to a stopped process, is sent again."
  (when (rlm-rpc-info)
    (if (not rlm-rpc--asked)
        (setq rlm-rpc--asked (float-time))
      (setq rlm-rpc--silent t)
      (rlm-rpc--safely rlm-rpc-silence-function (- (float-time) rlm-rpc--asked)))
    (unless rlm-rpc--beating
      (setq rlm-rpc--beating t)
      (rlm-rpc--send (rlm-rpc--make-call
                      :method 'rlm/status :params nil
                      :success (lambda (_)
                                 (setq rlm-rpc--beating nil)
                                 (rlm-rpc--alive))
                      :error (lambda (_) (setq rlm-rpc--beating nil)))))))

(defun rlm-rpc--alive ()
  "Note that the server has answered."
  (setq rlm-rpc--asked nil)
  (when rlm-rpc--silent
    (setq rlm-rpc--silent nil)
    (rlm-rpc--safely rlm-rpc-silence-function nil)))

(provide 'rlm-rpc)
;;; rlm-rpc.el ends here

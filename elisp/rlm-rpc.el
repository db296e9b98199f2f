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
;; - `rlm-rpc-event-function' gets every event, and `rlm-rpc-end-function' is
;;   told when the connection has ended and why.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'jsonrpc)
(require 'rlm-auth)
(require 'rlm-call)
(require 'rlm-server)

;;;; Customization

(defcustom rlm-request-timeout 30
  "Seconds to wait for the reply to a request.
A run takes as long as it takes: asking is answered at once, and the
answer arrives as events."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

;;;; Constants and variables

(defconst rlm-rpc-protocol-version 2
  "Version of the protocol that this package speaks.")

(defconst rlm-rpc-client-version "0.1.0"
  "Version of this package, as told to the server.")

(defvar rlm-rpc-event-function #'ignore
  "Function called with each event of a run, a plist.")

(defvar rlm-rpc-end-function #'ignore
  "Function called with a sentence that says why the connection has ended.")

(defvar rlm-rpc-busy-function #'ignore
  "Function that returns non-nil while the connection must not be given up.")

(defvar rlm-rpc-notice-function #'ignore
  "Function called with method and parameters of notifications that are no events.")

(defvar rlm-rpc--connection nil
  "The connection, an object of jsonrpc.el, or nil.")

(defvar rlm-rpc--info nil
  "The server's answer to the handshake, or nil before it.")

(defvar rlm-rpc--waiting nil
  "Requests that wait for the handshake, newest first.")

(defvar rlm-rpc--shared nil
  "Non-nil if the server connected last goes on without this Emacs.")

(defvar rlm-rpc--ending nil
  "Sentence that says why the connection is being ended, or nil.")

;;;; Requests

(cl-defun rlm-rpc-request (method params &key success error timeout)
  "Ask the server METHOD, a symbol, with PARAMS, a plist or nil.
SUCCESS is called with the result, or ERROR with a plist of :code,
:message and :data, exactly one of them and once, also when the server
dies or doesn't answer within TIMEOUT seconds (`rlm-request-timeout' by
default; the symbol `never' for requests that take as long as they take).
Start the server if need be; signal `rlm-rpc-error' if that can't be done."
  (rlm-rpc--ensure)
  (let ((call (rlm-call-make method params success error
                             (unless (eq timeout 'never)
                               (or timeout rlm-request-timeout)))))
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
  (rlm-call-send call rlm-rpc--connection #'rlm-rpc--explained))

(defun rlm-rpc--explained (connection problem)
  "Return PROBLEM of CONNECTION, with how the server has died if it has."
  (if (eql (plist-get problem :code) -1)
      (list :code -1 :message (or rlm-rpc--ending
                                  (rlm-rpc--death (jsonrpc--process connection))))
    problem))

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

(defun rlm-rpc-shared-p ()
  "Return non-nil if the server connected last does not end with this Emacs."
  rlm-rpc--shared)

(defun rlm-rpc-stop (&optional reason)
  "End the connection; REASON is a sentence for who asks why.
A server that Emacs has started ends with it."
  (when rlm-rpc--connection
    (setq rlm-rpc--ending (or reason "The server was stopped."))
    (let ((connection rlm-rpc--connection)
          (process (rlm-rpc-process)))
      (when (and (rlm-rpc-live-p) (not rlm-rpc--shared))
        (ignore-errors (jsonrpc-notify connection 'exit nil)))
      (delete-process process)
      (rlm-rpc--forget connection))))

(defun rlm-rpc-use-host (host)
  "Let the server be that of HOST, nil for this machine, from now on.
Signal `rlm-rpc-error' while runs are going on at another one, and if the
user wants none there."
  (unless (equal host rlm-server-host)
    (when (and host rlm-server-address)
      (signal 'rlm-rpc-error
              '("With `rlm-server-address', files on other machines can't be asked about")))
    (when (and host (not rlm-remote-server))
      (signal 'rlm-rpc-error
              (list (format "No server is to be started on %s: see `rlm-remote-server'" host))))
    (when (rlm-rpc-live-p)
      (when (funcall rlm-rpc-busy-function)
        (signal 'rlm-rpc-error
                (list (format "A run is going on at %s: one server is connected at a time"
                              (or rlm-server-host "this machine")))))
      (rlm-rpc-stop "The server of another machine is used now."))
    (rlm-server-forgive)
    (setq rlm-server-host host)))

(defun rlm-rpc--ensure ()
  "Connect unless there is a connection."
  (unless (rlm-rpc-live-p)
    (when rlm-rpc--connection
      (rlm-rpc--forget rlm-rpc--connection))
    (rlm-rpc--connect)))

(defun rlm-rpc--connect ()
  "Start or reach the server, and begin the handshake."
  (setq rlm-rpc--info nil rlm-rpc--ending nil
        rlm-rpc--shared (and rlm-server-address t))
  (condition-case problem
      (let ((process-adaptive-read-buffering nil)
            (read-process-output-max (max 65536 read-process-output-max)))
        (setq rlm-rpc--connection (rlm-rpc--make-connection))
        (rlm-rpc--initialize)
        (unless rlm-rpc--connection
          (signal 'rlm-rpc-error '("The server ended as soon as it was started"))))
    ((error quit)
     (rlm-rpc-stop (error-message-string problem))
     (if (memq (car problem) '(quit rlm-rpc-error))
         (signal (car problem) (cdr problem))
       (signal 'rlm-rpc-error (list (error-message-string problem)))))))

(defun rlm-rpc--make-connection ()
  "Return a new connection."
  (let ((connection
         (apply #'make-instance 'jsonrpc-process-connection
                :name "rlm"
                :process #'rlm-server-start
                :notification-dispatcher #'rlm-rpc--on-notification
                :on-shutdown #'rlm-rpc--on-shutdown
                ;; The events buffer costs twenty times the rest, and would hold keys.
                (if (boundp 'jsonrpc-event-hook)
                    '(:events-buffer-config (:size 0 :format short))
                  '(:events-buffer-scrollback-size 0)))))
    ;; Later versions have one all the same, which nobody wants to see.
    (when (boundp 'jsonrpc-event-hook)
      (with-current-buffer (jsonrpc-events-buffer connection)
        (rename-buffer " *rlm events*" t)))
    connection))

(defun rlm-rpc--on-notification (_connection method params)
  "Give PARAMS of a notification METHOD on, most often events."
  (if (not (eq method 'rlm/events))
      (rlm-call-safely rlm-rpc-notice-function method params)
    (seq-doseq (event (plist-get params :events))
      (rlm-call-safely rlm-rpc-event-function event))))

(defun rlm-rpc--on-shutdown (connection)
  "Clean up after CONNECTION, whose process has ended."
  (rlm-call-safely #'rlm-rpc--forget connection)
  (rlm-call-safely #'rlm-rpc--bury connection))

(defun rlm-rpc--forget (connection)
  "Give up CONNECTION: end what waits for it and tell that it has ended."
  (when (eq connection rlm-rpc--connection)
    (let ((reason (or rlm-rpc--ending (rlm-rpc--death (jsonrpc--process connection))))
          (waiting (nreverse rlm-rpc--waiting)))
      (setq rlm-rpc--connection nil rlm-rpc--info nil
            rlm-rpc--waiting nil rlm-rpc--ending nil)
      (dolist (call waiting)
        (rlm-call-fail call (list :code -1 :message reason)))
      (rlm-call-safely rlm-rpc-end-function reason))))

(defun rlm-rpc--death (process)
  "Return a sentence on the end of PROCESS."
  (cond (rlm-rpc--shared "The connection to the server was lost.")
        ((eq (process-status process) 'signal)
         (format "The server was killed by signal %d." (process-exit-status process)))
        (t (format "The server ended with status %d.%s" (process-exit-status process)
                   (rlm-server-log-last-words)))))

(defun rlm-rpc--bury (connection)
  "Kill the buffers that jsonrpc.el has made for CONNECTION."
  (let ((process (jsonrpc--process connection)))
    (dolist (buffer (list (jsonrpc--events-buffer connection) (process-buffer process)
                          (process-get process 'jsonrpc-stderr)))
      (when (buffer-live-p buffer)
        (let (kill-buffer-query-functions)
          (kill-buffer buffer))))))

;;;; Handshake

(defun rlm-rpc--initialize ()
  "Begin the handshake; requests wait for its end."
  (let ((connection rlm-rpc--connection))
    (rlm-rpc--send (rlm-call-make 'initialize (rlm-rpc--initialize-params)
                                  (lambda (result) (rlm-rpc--on-initialized connection result))
                                  (lambda (problem) (rlm-rpc--refused connection problem))
                                  rlm-request-timeout))))

(defun rlm-rpc--initialize-params ()
  "Return the parameters of the handshake."
  (append (list :protocolVersion rlm-rpc-protocol-version
                :clientInfo (list :name "rlm.el" :version rlm-rpc-client-version)
                :processId (emacs-pid))
          (when-let ((token (rlm-server-token)))
            (list :token token))))

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
        (t (run-at-time 0 nil #'rlm-call-safely
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
                     (rlm-auth-keys (plist-get info :keysWanted))))
          (open (lambda (_) (rlm-rpc--open connection info))))
      (cond ((not (eq connection rlm-rpc--connection)))
            (keys (rlm-rpc--send (rlm-call-make 'rlm/keys (list :keys keys) open open
                                                rlm-request-timeout)))
            (t (funcall open nil))))))

(defun rlm-rpc--open (connection info)
  "Send what has waited for CONNECTION, whose server has told INFO."
  (when (eq connection rlm-rpc--connection)
    (setq rlm-rpc--info info)
    (let ((waiting (nreverse rlm-rpc--waiting)))
      (setq rlm-rpc--waiting nil)
      (mapc #'rlm-rpc--send waiting))))

(provide 'rlm-rpc)
;;; rlm-rpc.el ends here

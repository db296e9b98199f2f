;;; rlm-heartbeat.el --- Whether the server still answers  -*- lexical-binding: t; -*-

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

;; Nothing tells of a server that was stopped or is stuck.  So it is asked
;; for a sign of life while a run is live, and whoever wants to know is told
;; when it gives none, and when it answers again.

;;; Code:

(require 'rlm-call)
(require 'rlm-rpc)

(defcustom rlm-heartbeat 4
  "Seconds between two looks at whether the server still answers.
It is looked at only while a run is live.  Nil or 0: never."
  :group 'rlm
  :type '(choice (const :tag "Never" nil) rlm-amount)
  :package-version '(rlm . "0.1.0"))

(defvar rlm-heartbeat-silence-function #'ignore
  "Function called with the seconds for which the server hasn't answered.
Called with nil as soon as it answers again.")

(defvar rlm-heartbeat--timer nil
  "Timer that looks whether the server answers, or nil.")

(defvar rlm-heartbeat--asked nil
  "Time since which an answer is awaited, or nil.")

(defvar rlm-heartbeat--beating nil
  "Non-nil while a request for a sign of life is under way.")

(defvar rlm-heartbeat--silent nil
  "Non-nil if the server's silence was told.")

(defun rlm-heartbeat-watch (on)
  "Look from now on whether the server answers, if ON is non-nil."
  (cond ((not on)
         (when rlm-heartbeat--timer (cancel-timer rlm-heartbeat--timer))
         (setq rlm-heartbeat--timer nil rlm-heartbeat--asked nil
               rlm-heartbeat--beating nil rlm-heartbeat--silent nil))
        ((and rlm-heartbeat (> rlm-heartbeat 0) (not rlm-heartbeat--timer))
         (setq rlm-heartbeat--timer
               (run-at-time rlm-heartbeat rlm-heartbeat
                            #'rlm-call-safely #'rlm-heartbeat--beat)))))

(defun rlm-heartbeat--beat ()
  "Ask the server for a sign of life, and tell if it gives none.
A request that could not be sent, as to a stopped process, is sent again."
  (when (rlm-rpc-info)
    (if (not rlm-heartbeat--asked)
        (setq rlm-heartbeat--asked (float-time))
      (setq rlm-heartbeat--silent t)
      (rlm-call-safely rlm-heartbeat-silence-function (- (float-time) rlm-heartbeat--asked)))
    (unless rlm-heartbeat--beating
      (setq rlm-heartbeat--beating t)
      (rlm-rpc-request 'rlm/status nil :timeout 'never
                       :success (lambda (_)
                                  (setq rlm-heartbeat--beating nil)
                                  (rlm-heartbeat-note))
                       :error (lambda (_) (setq rlm-heartbeat--beating nil))))))

(defun rlm-heartbeat-note ()
  "Note that the server has given a sign of life."
  (setq rlm-heartbeat--asked nil)
  (when rlm-heartbeat--silent
    (setq rlm-heartbeat--silent nil)
    (rlm-call-safely rlm-heartbeat-silence-function nil)))

(provide 'rlm-heartbeat)
;;; rlm-heartbeat.el ends here
